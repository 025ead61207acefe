import type { Identity } from '../../lib/naming.ts';
import { boolProperty, numberProperty, type Properties, textProperty } from '../../lib/registry/properties.ts';
import type { Details } from '../../lib/registry/registration.ts';
import type { Place } from './place.ts';
import type { Published } from './published.ts';

export interface Given {
  author?: string | undefined;
  /** Name of the secret that a server reads the model with. */
  storageKey?: string | undefined;
}

/** MySQL's TEXT holds 65,535 bytes, and its three-byte UTF-8 no character above U+FFFF (v0.2.22 answers 500). */
const maxReadmeBytes = 60_000;

/** What the registry is told besides names (design section 7): all of it at the end, what is known of it for a reservation. */
export function detailsOf(identity: Identity, place: Place, path: string, given: Given, published?: Published): Details {
  const ours: Properties = {
    'modelferry.commit': textProperty(identity.commit),
    'modelferry.method': textProperty(identity.method ?? 'none'),
    ...(published && {
      'modelferry.manifest_sha256': textProperty(published.sha256),
      'modelferry.total_bytes': numberProperty(published.manifest.totalBytes),
    }),
    ...optional('modelferry.endpoint', place.location.endpoint),
    ...optional('modelferry.region', place.location.region),
  };
  const card = published && readCard(published.source);
  const general: Properties = {
    source: textProperty('huggingface'),
    ...optional('framework', card?.library),
    compressed: boolProperty(identity.method !== undefined),
    storage_type: textProperty(place.uri.startsWith('s3:') ? 's3' : 'folder'),
  };
  const { storageKey, author } = given;
  return {
    model: { fields: published ? modelFields(published, card) : {}, properties: { source: textProperty('huggingface') } },
    version: { fields: author === undefined ? {} : { author: plain(author) }, properties: { ...general, ...ours } },
    artifact: { fields: storageKey === undefined ? {} : { storageKey, storagePath: path.replace(/\/$/, '') }, properties: ours },
  };
}

interface Card {
  license: string | undefined;
  licenseLink: string | undefined;
  task: string | undefined;
  languages: string[];
  library: string | undefined;
}

function modelFields({ readme }: Published, card: Card | undefined): Record<string, unknown> {
  const fields = {
    license: card?.license,
    licenseLink: card?.licenseLink,
    libraryName: card?.library,
    tasks: card?.task === undefined ? undefined : [card.task],
    language: card?.languages.length ? card.languages : undefined,
    readme: readme && readmeText(readme),
  };
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined && value !== ''));
}

/** source.json as download writes it; what is not of the right kind is left out: it is a stranger's text. */
function readCard(source: Buffer | undefined): Card | undefined {
  let said: unknown;
  try {
    said = JSON.parse(source?.toString('utf8') ?? '');
  } catch {
    return undefined;
  }
  if (typeof said !== 'object' || said === null) return undefined;
  const { url, commit, license, licenseName, licenseLink, pipelineTag, languages, library } = said as Record<string, unknown>;
  const link = word(licenseLink);
  return {
    // Licences that the Hub has no word for are `other`, with a name of their own.
    license: license === 'other' ? (word(licenseName) ?? 'other') : word(license),
    // Mostly the name of a file in the repository.
    licenseLink: link === undefined || /^https?:/.test(link) ? link : `${url}/blob/${commit}/${link}`,
    task: word(pipelineTag),
    languages: [languages]
      .flat()
      .map(word)
      .filter((one) => one !== undefined),
    library: word(library),
  };
}

/** The text for readers: without the front matter, and no longer than the registry takes. */
function readmeText(bytes: Buffer): string {
  const text = plain(bytes.toString('utf8')).replace(/^---\r?\n[\s\S]*?\n---\r?\n+/, '');
  const short = Buffer.from(text).subarray(0, maxReadmeBytes).toString('utf8');
  // A character that was cut in two reads as U+FFFD.
  return short === text ? text : short.replace(/\ufffd+$/, '');
}

function word(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? plain(value).slice(0, 500) : undefined;
}

function plain(text: string): string {
  return text.replace(/[\u{10000}-\u{10ffff}]/gu, '').replaceAll('\0', '');
}

function optional(key: string, value: string | undefined): Properties {
  return value === undefined ? {} : { [key]: textProperty(value) };
}
