import type { Store } from '../store.ts';
import { readStored, type StoredFile, storedBytes } from './control.ts';
import type { SendFile } from './options.ts';
import { storedFile } from './seal.ts';

/**
 * Sends files, and keeps the record of what is stored up to date for those that are made on the way: only this record tells a rerun the sha256 of an
 * object that was sent in parts, since its metadata was fixed before the first of them.
 */
export function recordedSend(store: Store, storedKey: string, send: SendFile): SendFile {
  let files: Promise<Map<string, StoredFile>> | undefined;
  let writing: Promise<unknown> = Promise.resolve();
  return async (file, key, uploads, signal) => {
    const brought = await send(file, key, uploads, signal);
    if (file.recipe === undefined) return brought;
    files ??= readStored(store, storedKey);
    const known = await files;
    known.set(file.path, storedFile(file, brought, undefined));
    const written = writing.then(async () => {
      signal.throwIfAborted();
      await store.put(storedKey, storedBytes([...known.values()]));
    });
    writing = written.catch(() => {});
    await written;
    return brought;
  };
}
