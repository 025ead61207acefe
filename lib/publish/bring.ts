import { kindOf } from '../errors.ts';
import type { Expected } from '../integrity.ts';
import type { Log } from '../log.ts';
import { type ObjectInfo, PreconditionFailed, type Store } from '../store.ts';
import { Budget } from '../transfer/budget.ts';
import { allEnded, mapLimited } from '../transfer/pool.ts';
import { copiesFor } from './copies.ts';
import { type Brought, marksOf } from './inventory.ts';
import type { PublishOptions } from './options.ts';
import type { Uploads } from './uploads.ts';

/** Files that are in the store now, by path, and what it took. */
export interface Bringing {
  brought: Map<string, Brought>;
  uploadedBytes: number;
  copiedBytes: number;
}

/** Brings those of `files` that are not right already: copied inside the store where another version has them, sent where not. */
export async function bring(
  options: Pick<
    PublishOptions,
    'store' | 'controlPrefix' | 'versionsPrefix' | 'copyFrom' | 'prefix' | 'log' | 'signal' | 'progress' | 'concurrency' | 'send'
  >,
  files: readonly Expected[],
  right: ReadonlyMap<string, Brought>,
  uploads: Uploads,
): Promise<Bringing> {
  const { store, log, progress, prefix, concurrency } = options;
  // The first failure ends all: what a rerun can use stays in the store.
  const failed = new AbortController();
  const signal = AbortSignal.any([options.signal, failed.signal]);
  const missing = files.filter((file) => !right.has(file.path));
  const [copies] = await allEnded([copiesFor(options, missing), uploads.adopt(prefix, missing)]);
  const bringing: Bringing = { brought: new Map(right), uploadedBytes: 0, copiedBytes: 0 };
  const [totalBytes, toSend] = [sizeOf(files), sizeOf(missing)];
  log.info({ uri: `${store.uri}/${prefix}/`, files: files.length, bytes: totalBytes, toSend }, 'publishing');
  progress.start('upload', totalBytes);
  progress.add(totalBytes - toSend);
  // Large files first: the last one to end is then a small one.
  const order = [...missing].sort((a, b) => b.size - a.size);
  const copying = new Budget(concurrency);
  // Twice as many files as connections: the sender's own budgets keep to those, and one file is read while another is sent.
  await mapLimited(order, concurrency * 2, async (file) => {
    try {
      signal.throwIfAborted();
      const key = `${prefix}/${file.path}`;
      const twin = copies.get(file.sha256 ?? '');
      const copied = twin && (await copyFile(store, copying, twin, key, file, log, signal));
      if (copied) {
        bringing.copiedBytes += file.size;
        progress.add(file.size);
      } else bringing.uploadedBytes += file.size;
      bringing.brought.set(file.path, copied ?? (await options.send(file, key, uploads, signal)));
    } catch (error) {
      failed.abort(error);
      throw error;
    }
  });
  progress.end();
  await uploads.abortAll();
  return bringing;
}

/** A copy inside the store; undefined when its source has changed or gone, so that the file is sent instead. */
async function copyFile(
  store: Store,
  copying: Budget,
  twin: ObjectInfo,
  key: string,
  file: Expected,
  log: Log,
  signal: AbortSignal,
): Promise<Brought | undefined> {
  const leave = await copying.take(1, signal);
  try {
    const { sha256 = '' } = file;
    return { info: await store.copy(twin, key, marksOf(file, sha256)), sha256 };
  } catch (error) {
    if (!(error instanceof PreconditionFailed) && kindOf(error) !== 'not-found') throw error;
    log.info({ from: twin.key, to: key }, 'not copied: the source has changed');
    return undefined;
  } finally {
    leave();
  }
}

/** Bytes of all files. */
export function sizeOf(files: readonly Expected[]): number {
  return files.reduce((sum, file) => sum + file.size, 0);
}
