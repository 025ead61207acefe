import { StepError } from '../errors.ts';
import type { Log } from '../log.ts';
import type { Store } from '../store.ts';
import { type ControlKeys, controlKeys, readPublished, readStored } from './control.ts';
import { claimToDelete } from './delete-claim.ts';
import { checkNesting, rayHashName, takeInventory } from './inventory.ts';

export interface RemoveOptions {
  store: Store;
  controlPrefix: string;
  prefix: string;
  log: Log;
  signal: AbortSignal;
  concurrency: number;
  /** ms to wait for a run that publishes there. */
  waitTimeout: number;
}

export interface Removed {
  objects: number;
  /** Of the model's files. */
  bytes: number;
  /** Keys under the prefix that are not ours: they stay. */
  foreign: string[];
}

/**
 * Deletes a published model: its manifest first, so that no reader sees half of it, then its objects and unfinished uploads, then its records.
 * What a killed run left of it is deleted too. Undefined when there is no record of one; `refused` when other models lie in it. A run that publishes there is waited for (`transient`).
 */
export async function removePublished(options: RemoveOptions): Promise<Removed | undefined> {
  const { store, controlPrefix, prefix, log, signal, waitTimeout } = options;
  const keys = controlKeys(controlPrefix, prefix);
  // A folder of models is no model.
  await checkNesting(store, controlPrefix, prefix);
  const claim = await claimToDelete(store, { prefix, controlPrefix, log, signal, waitTimeout });
  if (claim === undefined) throw new StepError('bug', `failed to delete ${prefix}: its claim was not given`);
  try {
    const removed = await removeClaimed({ ...options, signal: AbortSignal.any([signal, claim.signal]) }, keys);
    await claim.drop();
    return removed;
  } catch (error) {
    await claim.release();
    throw error;
  }
}

/** Whether there is anything for removePublished: a model, records of one, or a run that publishes. `refused` when other models lie in it. */
export async function isRemovable(store: Store, controlPrefix: string, prefix: string): Promise<boolean> {
  await checkNesting(store, controlPrefix, prefix);
  const { manifest, stored, source, claim } = controlKeys(controlPrefix, prefix);
  return (await existing(store, [manifest, stored, source, claim])).length > 0;
}

/** What removePublished would delete, as far as it can be seen now: it writes nothing and waits for nobody. Undefined and `refused` as there. */
export async function findRemovable(
  options: Pick<RemoveOptions, 'store' | 'controlPrefix' | 'prefix' | 'concurrency'>,
): Promise<Removed | undefined> {
  await checkNesting(options.store, options.controlPrefix, options.prefix);
  return (await find(options, controlKeys(options.controlPrefix, options.prefix)))?.removed;
}

async function find({ store, prefix, concurrency }: Pick<RemoveOptions, 'store' | 'prefix' | 'concurrency'>, keys: ControlKeys) {
  const published = await readPublished(store, keys.manifest);
  const records = await existing(store, [keys.stored, keys.source]);
  if (published === undefined && records.length === 0) return undefined;
  const stored = await readStored(store, keys.stored);
  const known = new Set([
    ...stored.keys(),
    ...(published?.manifest.files.map(({ path }) => path) ?? []),
    ...(published ? [rayHashName] : []),
  ]);
  const inventory = await takeInventory({ store, prefix, files: [], known, storedKeys: [keys.stored], rayHash: false, concurrency });
  const bytes = published?.manifest.totalBytes ?? [...stored.values()].reduce((sum, { size }) => sum + size, 0);
  const removed: Removed = { objects: inventory.leftovers.length, bytes, foreign: inventory.foreign };
  return { published, records, objects: inventory.leftovers, removed };
}

async function removeClaimed(options: RemoveOptions, keys: ControlKeys): Promise<Removed | undefined> {
  const { store, prefix, signal } = options;
  const found = await find(options, keys);
  if (found === undefined) return undefined;
  signal.throwIfAborted();
  if (found.published) await store.delete([keys.manifest], { etag: found.published.info.etag });
  for (const upload of (await store.listMultiparts(`${prefix}/`)) ?? []) await store.abortMultipart(upload);
  await store.delete(found.objects);
  await store.delete(found.records);
  return found.removed;
}

async function existing(store: Store, keys: readonly string[]): Promise<string[]> {
  const found = await Promise.all(keys.map((key) => store.head(key)));
  return keys.filter((_, index) => found[index] !== undefined);
}
