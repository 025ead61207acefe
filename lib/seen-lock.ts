import { link, open, rename, rm } from 'node:fs/promises';
import { isGone, type LockHolder, orUndefined } from './holder.ts';
import { temporaryName } from './temporary.ts';

/** A lock as whoever else wants it finds it. */
export interface SeenLock {
  text: string;
  inode: number;
  mtimeMs: number;
}

/** What is in a lock file now; undefined when there is none. It is opened first: on NFS that is what makes its attributes fresh. */
export async function look(path: string): Promise<SeenLock | undefined> {
  try {
    await using file = await open(path, 'r');
    const { ino, mtimeMs } = await file.stat();
    return { text: await file.readFile('utf8'), inode: ino, mtimeMs };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** True when the holder of a lock is gone: known of a process of this machine, else judged by the age of the lock (ms). */
export async function isStale(path: string, seen: SeenLock, staleMs: number): Promise<boolean> {
  const holder = holderIn(seen.text);
  const gone = holder && isGone(holder);
  if (gone !== undefined) return gone;
  const now = await volumeNow(path).catch((error: NodeJS.ErrnoException) => {
    // Gone with its folder.
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  return now !== undefined && now - seen.mtimeMs > staleMs;
}

/** The time (ms) by the clock of whoever keeps the volume, which may be far from ours: that of a file written this moment. */
async function volumeNow(path: string): Promise<number> {
  const probe = `${path}.${temporaryName()}`;
  try {
    await using file = await open(probe, 'wx');
    await file.write('now', 0);
    await file.sync();
    return (await file.stat()).mtimeMs;
  } finally {
    await rm(probe, { force: true });
  }
}

/**
 * Takes a stale lock away, so that one of those who try can make its own; false when it is another one than was judged by now,
 * which is put back. (Should a third run make a lock in that moment, the one moved finds at its next renewal that it has lost.)
 */
export async function takeAway(path: string, judged: SeenLock): Promise<boolean> {
  const aside = `${path}.${temporaryName()}`;
  try {
    await rename(path, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
  const moved = await look(aside);
  const same = moved?.text === judged.text && moved.inode === judged.inode && moved.mtimeMs === judged.mtimeMs;
  if (!same) await link(aside, path).catch(() => {});
  await rm(aside, { force: true });
  return same;
}

/** Who a lock's text names; undefined when it names nobody, as that of one that is just being made may. */
export function holderIn(text: string): LockHolder | undefined {
  const value = orUndefined(() => JSON.parse(text) as Partial<LockHolder>);
  return typeof value?.pid === 'number' && typeof value.host === 'string' ? (value as LockHolder) : undefined;
}
