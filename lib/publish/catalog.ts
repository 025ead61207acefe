import { StepError } from '../errors.ts';
import type { Log } from '../log.ts';
import { knownStart, wordsIn } from '../naming.ts';
import type { Store } from '../store.ts';
import { controlKeys, type Published, prefixOfManifest, readPublished } from './control.ts';

/** A published model, as the listing of manifests tells it. */
export interface Listed {
  prefix: string;
  publishedAt: Date;
  /** As the key template tells them; undefined where the prefix is none of it. */
  words: ReturnType<typeof wordsIn>;
}

export interface CatalogOptions {
  controlPrefix: string;
  keyTemplate: string;
}

/** Every published model whose prefix begins so, newest first. */
export async function listPublished(store: Store, { controlPrefix, keyTemplate }: CatalogOptions, start = ''): Promise<Listed[]> {
  const found: Listed[] = [];
  for await (const { key, lastModified } of store.list(`${controlPrefix}/manifests/${start}`)) {
    const prefix = prefixOfManifest(controlPrefix, key);
    if (prefix !== undefined) found.push({ prefix, publishedAt: lastModified, words: wordsIn(keyTemplate, prefix) });
  }
  return found.sort((a, b) => b.publishedAt.getTime() - a.publishedAt.getTime());
}

/** What is looked for: a repository at a revision, or names. */
export interface Asked {
  repo?: string | undefined;
  /** Branch, tag or commit; undefined: any. */
  revision?: string | undefined;
  name?: string | undefined;
  version?: string | undefined;
}

export interface Found extends Published {
  prefix: string;
}

const isCommit = (revision: string) => /^[0-9a-f]{40}$/.test(revision);

/**
 * The newest published model that was asked for; undefined when there is none. A branch or tag is one that the model was published from; `main`
 * is also taken for what was published by commit. A compressed model is another one than its repository's: its version must be asked for.
 */
export async function findPublished(store: Store, options: CatalogOptions, asked: Asked, log: Log): Promise<Found | undefined> {
  const { keyTemplate } = options;
  const [org, base] = asked.repo?.includes('/') ? asked.repo.split('/') : ['', asked.repo];
  const ofRepo = asked.repo === undefined ? {} : { org, repo: base };
  const commit = asked.revision !== undefined && isCommit(asked.revision) ? asked.revision : undefined;
  const known = { ...ofRepo, name: asked.name ?? base, version: asked.version, commit };
  const fits = ({ words }: Listed) =>
    words !== undefined &&
    Object.entries(known).every(([word, value]) => value === undefined || (words[word as 'name'] ?? value) === value);
  const passed = new Set<string>();
  const first = async (listed: readonly Listed[]) => {
    for (const { prefix } of listed) {
      if (passed.has(prefix)) continue;
      passed.add(prefix);
      const found = await matching(store, options, prefix, asked, log);
      if (found) return found;
    }
    return undefined;
  };
  const near = await first((await listPublished(store, options, knownStart(keyTemplate, known))).filter(fits));
  // The repository may be published under another name.
  if (near || asked.name !== undefined || asked.version !== undefined || asked.repo === undefined) return near;
  return await first(await listPublished(store, options));
}

async function matching(
  store: Store,
  { controlPrefix }: CatalogOptions,
  prefix: string,
  { repo, revision, version }: Asked,
  log: Log,
): Promise<Found | undefined> {
  const keys = controlKeys(controlPrefix, prefix);
  const published = await readPublished(store, keys.manifest).catch((error: unknown) => {
    if (!(error instanceof StepError) || error.kind !== 'integrity') throw error;
    log.warn({ prefix, error: error.message }, 'a manifest in the store cannot be read');
    return undefined;
  });
  if (published === undefined) return undefined;
  const { source, derived } = published.manifest;
  if (repo !== undefined && source.repo !== repo) return undefined;
  if (derived !== undefined && version === undefined && repo !== undefined) {
    log.info({ prefix, method: derived.method }, 'a compressed model is passed over: ask for it by --model-version');
    return undefined;
  }
  if (revision === undefined || source.commit === revision) return { ...published, prefix };
  if (isCommit(revision)) return undefined;
  // A version is said by whoever published it: it needs no branch.
  if (version !== undefined) return { ...published, prefix };
  const from = await publishedFrom(store, keys.source);
  const unknown = from === undefined || isCommit(from);
  return from === revision || (unknown && revision === 'main') ? { ...published, prefix } : undefined;
}

/** The revision that was asked for when the model was published, as its record says. */
async function publishedFrom(store: Store, key: string): Promise<string | undefined> {
  const found = await store.get(key);
  try {
    const { revision } = JSON.parse(found?.bytes.toString('utf8') ?? '') as { revision?: unknown };
    return typeof revision === 'string' ? revision : undefined;
  } catch {
    return undefined;
  }
}
