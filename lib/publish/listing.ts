import { setTimeout as sleep } from 'node:timers/promises';
import { StepError } from '../errors.ts';
import type { ObjectInfo, Store } from '../store.ts';

interface Sized {
  path: string;
  /** Bytes. */
  size: number;
}

/** ms between looks at a listing that does not show yet what is there. */
const pauses = [250, 500, 1000, 2000, 4000, 8000];

/**
 * What lies under a prefix, by path, once the listing agrees with a look at the objects themselves: in some stores listings come late, which is no
 * fault of the model. Throws `transient` when it stays behind for longer than 15 s. What is missing from both is the caller's to judge.
 */
export async function settledListing(store: Store, prefix: string, files: readonly Sized[]): Promise<Map<string, ObjectInfo>> {
  const wanted = new Map(files.map((file) => [file.path, file]));
  for (const pause of [...pauses, undefined]) {
    const listed = await listing(store, prefix);
    const late = await lateEntry(store, prefix, wanted, listed);
    if (late === undefined) return listed;
    if (pause === undefined) {
      throw new StepError('transient', `failed to list ${store.uri}/${prefix}/: it does not show ${late} as it is`, {
        hint: 'this store lists late: run it again later',
      });
    }
    await sleep(pause);
  }
  return new Map();
}

async function listing(store: Store, prefix: string): Promise<Map<string, ObjectInfo>> {
  const start = `${prefix}/`;
  const listed = new Map<string, ObjectInfo>();
  for await (const object of store.list(start)) listed.set(object.key.slice(start.length), object);
  return listed;
}

/** One path that the listing has otherwise than the store itself; a fault of both is looked at once, and it is the first one found. */
async function lateEntry(store: Store, prefix: string, wanted: ReadonlyMap<string, Sized>, listed: ReadonlyMap<string, ObjectInfo>) {
  const wrong = [...wanted.values()].find(({ path, size }) => listed.get(path)?.size !== size);
  if (wrong && (await store.head(`${prefix}/${wrong.path}`))?.size === wrong.size) return wrong.path;
  const extra = [...listed.keys()].find((path) => path !== '' && !wanted.has(path));
  return extra !== undefined && (await store.head(`${prefix}/${extra}`)) === undefined ? extra : undefined;
}
