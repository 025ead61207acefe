import { StepError } from '../errors.ts';
import { sha256Of } from '../integrity.ts';
import type { Log } from '../log.ts';
import type { Identity, Names } from '../naming.ts';
import { type Json, quoted } from './connection.ts';
import type { Properties } from './properties.ts';
import { checkName, type Entry, type Kind, type Registry } from './registry.ts';

/** What is registered. */
export interface Subject extends Names {
  identity: Identity;
  /** Where it lies or will lie: with a slash at its end, unless it is an archive, which is one object. */
  uri: string;
}

/** What is written besides names, by record. */
export interface Details {
  /** The card's fields: an existing model keeps those that it has. */
  model: { fields: Json; properties: Properties };
  version: { fields: Json; properties: Properties };
  artifact: { fields: Json; properties: Properties };
}

export interface Registration {
  model: Entry;
  version: Entry;
  artifact: Entry;
}

/** An externalId may have 255 characters; a longer one keeps its beginning and is told apart by its digest. */
const maxExternalId = 255;

/** The externalIds of a model and a version: who they are (design section 7). */
export function externalIdsOf({ identity, name, version }: Pick<Subject, 'identity' | 'name' | 'version'>): {
  model: string;
  version: string;
} {
  const { repo, commit, method = 'none' } = identity;
  return { model: bounded(`hf:${repo}#${name}`), version: bounded(`hf:${repo}@${commit}:${method}#${name}/${version}`) };
}

/** The externalId of an artifact: which bytes lie where. */
export function artifactExternalId(uri: string, manifestSha256: string): string {
  return bounded(`${uri}#${manifestSha256}`);
}

/**
 * Finds or makes model, version and artifact, the artifact PENDING unless it is LIVE at the same place. Throws `refused` when a name holds
 * another source, or the version another place. Its artifact has no externalId yet: the bytes that it will hold are not known.
 */
export async function reserve(registry: Registry, subject: Subject, details: Details): Promise<Registration> {
  checkName('--model-name', subject.name);
  checkName('--model-version', subject.version);
  const ids = externalIdsOf(subject);
  const model = await findOrMake(registry, 'model', subject.name, undefined, ids.model, details.model, '--model-name');
  const version = await findOrMake(registry, 'version', subject.version, model.id, ids.version, details.version, '--model-version');
  const artifact = await findOrMakeArtifact(registry, subject, version, details);
  return { model, version, artifact };
}

/**
 * Ends what reserve began, and begins it where that was not: fields and properties first, then the artifact LIVE with its externalId in one
 * change. A rerun changes nothing. Throws as reserve does, and `refused`, before anything is written, when the same bytes at the same place are
 * registered under other names.
 */
export async function complete(registry: Registry, subject: Subject, details: Details, manifestSha256: string): Promise<Registration> {
  const externalId = artifactExternalId(subject.uri, manifestSha256);
  const holder = await registry.findByExternalId('artifact', externalId);
  const own = holder && (await findArtifact(registry, subject, await findVersion(registry, subject)));
  if (holder && own?.id !== holder.id) throw takenError(subject, holder);
  const { model, version, artifact } = await reserve(registry, subject, details);
  const missing = Object.fromEntries(Object.entries(details.model.fields).filter(([name]) => isEmpty(model[name])));
  const live = { ...details.artifact.fields, uri: subject.uri, state: 'LIVE', externalId };
  const changedModel = await registry.change('model', model, missing, details.model.properties);
  const changedVersion = await registry.change('version', version, details.version.fields, details.version.properties);
  const changedArtifact = await registry.change('artifact', artifact, live, details.artifact.properties);
  if (changedArtifact === undefined) {
    // Registered by another run since we looked.
    if (artifact.state === 'PENDING') await registry.change('artifact', artifact, { state: 'ABANDONED' });
    throw takenError(subject, await registry.findByExternalId('artifact', externalId));
  }
  return { model: changedModel ?? model, version: changedVersion ?? version, artifact: changedArtifact };
}

function takenError({ uri }: Subject, holder: Entry | undefined): StepError {
  return new StepError('refused', `failed to register ${uri}: artifact ${holder?.id ?? 'of another version'} has it already`, {
    hint: 'the same bytes at the same place are registered under other names: use those, or another --key-template',
  });
}

export type Reserved = { artifactId: string } | Pick<Subject, 'identity' | 'name' | 'version'>;

/** Sets a PENDING artifact ABANDONED; the artifact's id, or undefined when there was nothing to do. */
export async function abandon(registry: Registry, reserved: Reserved, log: Log): Promise<string | undefined> {
  const artifact = 'artifactId' in reserved ? await registry.get('artifact', reserved.artifactId) : await findReserved(registry, reserved);
  if (artifact?.state !== 'PENDING') {
    log.info({ artifact: artifact?.id ?? '', state: artifact?.state ?? 'none' }, 'nothing to abandon');
    return undefined;
  }
  const after = await registry.change('artifact', artifact, { state: 'ABANDONED' });
  if (after !== undefined && after.externalId !== artifact.externalId) {
    // A run completed it between our look and our change, and sets its externalId in doing so.
    await registry.change('artifact', after, { state: 'LIVE' });
    log.info({ artifact: artifact.id }, 'nothing to abandon: it became live meanwhile');
    return undefined;
  }
  log.info({ artifact: artifact.id }, 'reservation abandoned');
  return artifact.id;
}

async function findReserved(registry: Registry, subject: Exclude<Reserved, { artifactId: string }>): Promise<Entry | undefined> {
  const version = await findVersion(registry, subject);
  return version?.externalId === externalIdsOf(subject).version ? await findArtifact(registry, subject, version) : undefined;
}

async function findVersion(registry: Registry, { name, version }: Names): Promise<Entry | undefined> {
  const model = await registry.find('model', name);
  return model && (await registry.find('version', version, model.id));
}

/** Under the model's name. */
async function findArtifact(registry: Registry, { name }: Names, version: Entry | undefined): Promise<Entry | undefined> {
  return version && (await registry.find('artifact', name, version.id));
}

/** By name; a record without a source (made by hand, or by another tool) is taken over. */
async function findOrMake(
  registry: Registry,
  kind: 'model' | 'version',
  name: string,
  parentId: string | undefined,
  externalId: string,
  { fields, properties }: Details['model'],
  flag: string,
): Promise<Entry> {
  let entry = await registry.find(kind, name, parentId);
  if (entry === undefined) {
    const made = await registry.create(kind, { name, externalId, ...fields, customProperties: properties }, parentId);
    if (made) return made;
    // Taken meanwhile by another run, which made the same.
    entry = await registry.find(kind, name, parentId);
  }
  if (entry === undefined) throw await whyTaken(registry, kind, name, parentId, externalId, flag);
  if (isEmpty(entry.externalId)) {
    const adopted = await registry.change(kind, entry, { externalId });
    if (adopted) return adopted;
    throw await whyTaken(registry, kind, name, parentId, externalId, flag);
  }
  // Names on the Hub differ by more than case, and so must externalIds on MySQL.
  if (entry.externalId?.toLowerCase() === externalId.toLowerCase()) return entry;
  throw new StepError('refused', `failed to register ${kind} ${quoted(name)}: the name holds ${entry.externalId}, not ${externalId}`, {
    hint: `give another ${flag}`,
  });
}

async function findOrMakeArtifact(registry: Registry, subject: Subject, version: Entry, details: Details): Promise<Entry> {
  const { name, uri } = subject;
  const { fields, properties } = details.artifact;
  let entry = await findArtifact(registry, subject, version);
  if (entry === undefined) {
    const made = await registry.create('artifact', { name, uri, state: 'PENDING', ...fields, customProperties: properties }, version.id);
    if (made) return made;
    entry = await findArtifact(registry, subject, version);
  }
  if (entry === undefined) {
    throw new StepError('transient', `failed to make model artifact ${quoted(name)}: its name is taken, but no artifact has it`);
  }
  if (entry.state !== 'LIVE') return (await registry.change('artifact', entry, { uri, state: 'PENDING' })) ?? entry;
  if (entry.uri === uri) return entry;
  throw new StepError('refused', `failed to register ${uri}: version ${quoted(version.name)} is live at ${String(entry.uri)}`, {
    hint: 'give another --model-version, or the place where it lies',
  });
}

/** A 409 without a record of that name: a name that differs by case only (one on MySQL), or an externalId that somebody has set elsewhere. */
async function whyTaken(
  registry: Registry,
  kind: Kind,
  name: string,
  parentId: string | undefined,
  externalId: string,
  flag: string,
): Promise<StepError> {
  const twin = (await registry.list(kind, parentId)).find(
    (entry) => entry.name !== name && entry.name.toLowerCase() === name.toLowerCase(),
  );
  const holder = twin ?? (await registry.findByExternalId(kind, externalId));
  if (holder === undefined) return new StepError('transient', `failed to make ${kind} ${quoted(name)}: it is taken, but not found`);
  const why = twin ? 'differs from it by case only' : `holds ${externalId}`;
  return new StepError('refused', `failed to register ${kind} ${quoted(name)}: ${quoted(holder.name)} ${why}`, {
    hint: `give another ${flag}`,
  });
}

function isEmpty(value: unknown): boolean {
  return value === undefined || value === null || value === '' || (Array.isArray(value) && value.length === 0);
}

function bounded(externalId: string): string {
  if (externalId.length <= maxExternalId) return externalId;
  return `${externalId.slice(0, maxExternalId - 65)}~${sha256Of(externalId)}`;
}
