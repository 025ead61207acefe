import { lstat, mkdir, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { explain, kindOf, messageOf } from '../errors.ts';
import { removeEmptyFolders } from '../folders.ts';
import { type AsyncVerifier, verifierFor } from '../hashing/verifier.ts';
import { type Expected, feedFile, Verifier } from '../integrity.ts';
import type { Log } from '../log.ts';
import type { ManifestFile } from '../manifest.ts';
import type { Progress } from '../progress.ts';
import { Budget } from '../transfer/budget.ts';
import { BufferPool, bufferBytes, sizeForAll } from '../transfer/buffers.ts';
import { moveParts, type PartsOptions } from '../transfer/parts.ts';
import { mapLimited } from '../transfer/pool.ts';
import { type ModelFolder, safeJoin } from '../workspace.ts';
import { PartialFile } from './partial-file.ts';

/** The bytes of one file, wherever they come from, by ranges. Retries are its own matter. */
export interface RangeReader {
  /** Fills `into` with the bytes from `offset`, telling how many have come; several reads may run side by side. */
  read(offset: number, into: Buffer, onBytes: (bytes: number) => void, signal: AbortSignal): Promise<void>;
}

export interface Bringing {
  open: (file: Expected) => RangeReader;
  folder: ModelFolder;
  /** What is there: whole files, and the beginnings of others (bytes, by path). */
  whole: ReadonlyMap<string, number>;
  begun: ReadonlyMap<string, number>;
  log: Log;
  progress: Progress;
  signal: AbortSignal;
  concurrency: number;
  partSize: number;
  maxMemory: number;
}

/** How many bytes are still to come. */
export function bytesToMove(files: readonly Expected[], { whole, begun }: Pick<Bringing, 'whole' | 'begun'>): number {
  const missing = ({ path, size }: Expected) => (whole.get(path) === size ? 0 : size - beginning(begun, path, size));
  return files.reduce((sum, file) => sum + missing(file), 0);
}

/**
 * Brings every file into the folder, verified: what is there is hashed, the rest downloaded, from where an earlier run came to.
 * The first permanent failure ends all and is thrown; what has arrived by then stays for the next run.
 */
export async function bringFiles(files: readonly Expected[], bringing: Bringing): Promise<ManifestFile[]> {
  const { concurrency, partSize, maxMemory, progress, folder } = bringing;
  const failed = new AbortController();
  const signal = AbortSignal.any([bringing.signal, failed.signal]);
  const buffers = new BufferPool(bufferBytes(maxMemory, concurrency));
  const parts = { connections: new Budget(concurrency), buffers, partSize: sizeForAll(partSize, buffers.total, concurrency), signal };
  progress.start(
    'download',
    files.reduce((sum, { size }) => sum + size, 0),
  );
  // Once for each folder, not for each file.
  const folders = new Set(files.flatMap(({ path }) => [folder.files, folder.partial].map((dir) => dirname(safeJoin(dir, path)))));
  try {
    for (const dir of folders) await mkdir(dir, { recursive: true });
    return await mapLimited(files, concurrency, async (file) => {
      try {
        return { path: file.path, size: file.size, sha256: await bring(file, { ...bringing, signal }, parts) };
      } catch (error) {
        failed.abort(error);
        throw explain(`bring ${file.path}`, error);
      }
    });
  } catch (error) {
    for (const dir of folders) await removeEmptyFolders(dir, dirname(folder.dir));
    throw error;
  } finally {
    progress.end();
  }
}

/** Brings one file; returns its sha256. */
async function bring(file: Expected, bringing: Bringing, parts: PartsOptions): Promise<string> {
  const { folder, whole, begun, log } = bringing;
  const target = safeJoin(folder.files, file.path);
  const partial = safeJoin(folder.partial, file.path);
  if (whole.get(file.path) === file.size) {
    const found = await hashWhole(file, target, bringing);
    if (found !== undefined) return found;
  }
  let from = beginning(begun, file.path, file.size);
  for (let fresh = 0; ; ) {
    if (from === 0) fresh += 1;
    using verifier = verifierFor(file);
    await moveFile(file, { path: partial, from, verifier }, bringing, parts);
    try {
      const sha256 = await verifier.finish();
      await rename(partial, target);
      log.debug({ path: file.path, size: file.size, sha256 }, 'file done');
      return sha256;
    } catch (error) {
      if (kindOf(error) !== 'integrity') throw error;
      // What is wrong must not be gone on from.
      await rm(partial, { force: true });
      if (fresh > 1) throw error;
      log.warn({ path: file.path, resumedFrom: from, error: messageOf(error) }, 'wrong bytes: the file is brought again');
      bringing.progress.add(-file.size);
      from = 0;
    }
  }
}

/** Moves what is missing behind the first `from` bytes, after those were hashed from the disk. */
async function moveFile(
  file: Expected,
  { path, from, verifier }: { path: string; from: number; verifier: AsyncVerifier },
  { open, progress }: Bringing,
  parts: PartsOptions,
): Promise<void> {
  const partial = await PartialFile.open(path, from);
  try {
    await feedFile(path, counting(verifier, progress), parts.signal, from);
    const remote = open(file);
    await moveParts(parts, {
      size: file.size,
      from,
      read: (offset, into, signal) => remote.read(offset, into, (bytes) => progress.add(bytes), signal),
      hash: verifier,
      take: (bytes, offset) => partial.append(bytes, offset),
    });
    await partial.flush();
  } catch (error) {
    // Nothing came that a rerun could go on from.
    const info = await lstat(path).catch(() => undefined);
    if (info?.size === 0) await rm(path, { force: true }).catch(() => {});
    throw error;
  } finally {
    await partial.close();
  }
}

/** The sha256 of a file that is there whole; undefined when it is not what it should be, and then it is gone. */
async function hashWhole(file: Expected, target: string, { log, progress, signal }: Bringing): Promise<string | undefined> {
  const verifier = new Verifier(file);
  await feedFile(target, counting(verifier, progress), signal);
  try {
    return verifier.finish();
  } catch (error) {
    log.warn({ path: file.path, error: messageOf(error) }, 'a file that was there is wrong: it is brought again');
    await rm(target, { force: true });
    progress.add(-file.size);
    return undefined;
  }
}

function counting(verifier: { update(bytes: Uint8Array): unknown }, progress: Progress): { update(bytes: Uint8Array): Promise<void> } {
  return {
    async update(bytes) {
      await verifier.update(bytes);
      progress.add(bytes.length);
    },
  };
}

/** Where a file goes on; one that is longer than it may be starts again. */
function beginning(begun: ReadonlyMap<string, number>, path: string, size: number): number {
  const length = begun.get(path) ?? 0;
  return length > size ? 0 : length;
}
