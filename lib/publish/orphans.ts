import type { Log } from '../log.ts';
import { knownStart, wordsIn } from '../naming.ts';
import { parents } from '../paths.ts';
import type { MultipartUpload, ObjectInfo, Store } from '../store.ts';
import { mapLimited } from '../transfer/pool.ts';
import { type CatalogOptions, listPublished } from './catalog.ts';
import { parseClaim } from './claim-record.ts';
import { controlKeys, prefixOfRecord } from './control.ts';
import { claimToDelete } from './delete-claim.ts';
import { isOurs } from './inventory.ts';
import { withShardClaims } from './shard-claims.ts';

/** What is left of one model that is not published. */
export interface Leftover {
  prefix: string;
  objects: ObjectInfo[];
  /** Keys of records that tell of it. */
  records: string[];
  /** Named by a claim that nobody holds any more. */
  uploads: MultipartUpload[];
}

export interface LeftoverOptions extends CatalogOptions {
  /** What is younger (ms) is left alone. */
  ageMs: number;
  concurrency: number;
  log: Log;
}

/**
 * What killed runs and deletions left: objects that bear our marks, records, and uploads that a dead claim names, all of them old, and of no
 * published model and no run that lives. What others put there is never among it. Asks for the metadata of every object that belongs to no model.
 */
export async function findLeftovers(store: Store, options: LeftoverOptions): Promise<Leftover[]> {
  const { controlPrefix, keyTemplate, ageMs, concurrency } = options;
  const before = store.now().getTime() - ageMs;
  const isOld = ({ lastModified }: ObjectInfo) => lastModified.getTime() < before;
  const found = new Map<string, Leftover>();
  const at = (prefix: string) => {
    const leftover = found.get(prefix) ?? { prefix, objects: [], records: [], uploads: [] };
    found.set(prefix, leftover);
    return leftover;
  };
  const living = new Set<string>();
  for (const kind of ['claims', 'stored', 'source'] as const) {
    for await (const info of store.list(`${controlPrefix}/${kind}/`)) {
      const prefix = prefixOfRecord(controlPrefix, kind, info.key);
      if (prefix === undefined) continue;
      if (!isOld(info)) living.add(prefix);
      else if (kind === 'claims') at(prefix).uploads.push(...(await uploadsOf(store, info.key, prefix)));
      else at(prefix).records.push(info.key);
    }
  }
  const candidates: ObjectInfo[] = [];
  for await (const object of store.list(knownStart(keyTemplate, {}))) {
    if (!object.key.startsWith(`${controlPrefix}/`)) candidates.push(object);
  }
  // Last of all: a model that was published meanwhile is no leftover.
  for (const { prefix } of await listPublished(store, options)) living.add(prefix);
  const prefixOf = (key: string) =>
    parents(key).find((parent) => living.has(parent) || found.has(parent) || wordsIn(keyTemplate, parent) !== undefined);
  await mapLimited(candidates, concurrency, async (object) => {
    const prefix = prefixOf(object.key);
    if (prefix === undefined || living.has(prefix)) return;
    // One that is new tells of a run that works there.
    if (!isOld(object)) living.add(prefix);
    else if (isOurs((await store.head(object.key)) ?? object)) at(prefix).objects.push(object);
  });
  return [...found.values()].filter(
    ({ prefix, objects, records, uploads }) => !living.has(prefix) && objects.length + records.length + uploads.length > 0,
  );
}

async function uploadsOf(store: Store, key: string, prefix: string): Promise<MultipartUpload[]> {
  const record = await store.get(key);
  const own = record && parseClaim(record.bytes);
  if (own === undefined) return [];
  const claim = await withShardClaims(store, own);
  const named = new Map(Object.entries(claim.uploads).map(([name, { uploadId }]) => [uploadId, { key: name, uploadId }]));
  // Begun, and killed before it could be named: on a key that was announced.
  for (const { key: open, uploadId } of (await store.listMultiparts(prefix)) ?? []) {
    if (claim.keys.includes(open)) named.set(uploadId, { key: open, uploadId });
  }
  // An archive is one object: its claim's prefix is its key.
  return [...named.values()].filter(({ key }) => key === prefix || key.startsWith(`${prefix}/`));
}

/** Deletes what is left of a model, under a claim of its own; false when it has been published, or somebody publishes it just now. */
export async function removeLeftover(
  store: Store,
  { prefix, objects, records, uploads }: Leftover,
  { controlPrefix, log, signal }: { controlPrefix: string; log: Log; signal: AbortSignal },
): Promise<boolean> {
  const { manifest } = controlKeys(controlPrefix, prefix);
  const published = async () => (await store.head(manifest)) !== undefined;
  const claim = await claimToDelete(store, { prefix, controlPrefix, log, signal, done: published });
  if (claim === undefined) return false;
  try {
    const done = await published();
    for (const upload of uploads) await store.abortMultipart(upload);
    if (!done) {
      await store.delete(objects.map(({ key }) => key));
      await store.delete(records);
    }
    return !done;
  } finally {
    await claim.drop();
  }
}
