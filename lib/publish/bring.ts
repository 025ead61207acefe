import { kindOf, messageOf } from '../errors.ts';
import type { Expected } from '../integrity.ts';
import type { Log } from '../log.ts';
import { PreconditionFailed, type Store } from '../store.ts';
import { Budget } from '../transfer/budget.ts';
import { allEnded, mapLimited } from '../transfer/pool.ts';
import { copiesFor, type Twin } from './copies.ts';
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
      const twin = copies.of(file);
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

/** A copy inside the store; undefined when it cannot be had, so that the file is sent instead: its source has changed or gone, or may not be copied. */
async function copyFile(
  store: Store,
  copying: Budget,
  { info: source, sha256 }: Twin,
  key: string,
  file: Expected,
  log: Log,
  signal: AbortSignal,
): Promise<Brought | undefined> {
  const leave = await copying.take(1, signal);
  try {
    return { info: await store.copy(source, key, marksOf(file, sha256)), sha256 };
  } catch (error) {
    const changed = error instanceof PreconditionFailed || kindOf(error) === 'not-found';
    // An archived source, another KMS key, a store that has no copies: what is wrong with more than the copy, sending meets too.
    if (!changed && !['denied', 'usage'].includes(kindOf(error))) throw error;
    if (changed) log.info({ from: source.key, to: key }, 'not copied: the source has changed');
    else log.warn({ from: source.key, to: key, error: messageOf(error) }, 'not copied, sent instead');
    return undefined;
  } finally {
    leave();
  }
}

/** Bytes of all files. */
export function sizeOf(files: readonly Expected[]): number {
  return files.reduce((sum, file) => sum + file.size, 0);
}
