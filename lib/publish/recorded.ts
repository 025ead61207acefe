import type { Expected } from '../integrity.ts';
import type { Store } from '../store.ts';
import { readStored, type StoredFile, storedBytes } from './control.ts';

/** Keeps what is known of a file's bytes right before its object is there. */
export type RecordFile = (file: Expected, sha256: string, signal: AbortSignal) => Promise<void>;

/**
 * Keeps the record of what is stored up to date for files that are made on the way: only this record tells a rerun the sha256 of an object that was
 * sent in parts, since its metadata was fixed before the first of them.
 */
export function recordMade(store: Store, storedKey: string): RecordFile {
  let files: Promise<Map<string, StoredFile>> | undefined;
  let writing: Promise<unknown> = Promise.resolve();
  return async ({ path, size, recipe }, sha256, signal) => {
    if (recipe === undefined) return;
    files ??= readStored(store, storedKey);
    const known = await files;
    known.set(path, { path, size, sha256, recipe, etag: '' });
    const written = writing.then(async () => {
      signal.throwIfAborted();
      await store.put(storedKey, storedBytes([...known.values()]));
    });
    writing = written.catch(() => {});
    await written;
  };
}
