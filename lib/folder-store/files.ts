import { mkdir, open, readFile, rename, rmdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { makeFolder } from '../folders.ts';
import { temporaryName } from '../temporary.ts';

/** Writes JSON so that a reader sees all of it or none, after a power cut too. */
export async function writeJson(temporary: string, path: string, value: unknown): Promise<void> {
  await writeFile(temporary, JSON.stringify(value), { flush: true });
  await renameInto(temporary, path);
}

/** Undefined when the file is not there or holds no JSON: what an older version wrote right before a power cut may be empty or torn. */
export async function readJson<T>(path: string): Promise<T | undefined> {
  const text = await readFile(path, 'utf8').catch(ignoreMissing);
  try {
    return text === undefined ? undefined : (JSON.parse(text) as T);
  } catch {
    return undefined;
  }
}

/** A name for a file that is not finished yet, in a folder that is there. */
export async function temporaryIn(dir: string): Promise<string> {
  await makeFolder(dir);
  return join(dir, temporaryName());
}

/** A rename into a folder that another writer may be tidying away just now. The disk has the new name when it returns. */
export async function renameInto(temporary: string, target: string): Promise<void> {
  const dir = dirname(target);
  const made = await renameMaking(temporary, target);
  await flushFolder(dir);
  for (let each = dir; made !== undefined && each.length >= made.length; each = dirname(each)) await flushFolder(dirname(each));
}

/** The topmost folder that was made for it. */
async function renameMaking(temporary: string, target: string): Promise<string | undefined> {
  for (let attempt = 1; ; attempt += 1) {
    const made = await mkdir(dirname(target), { recursive: true });
    try {
      await rename(temporary, target);
      return made;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || attempt === 10) throw error;
    }
  }
}

/** Waits until the disk has the names in a folder, or in the one above it when it is gone. Throws the system's error. */
export async function flushFolder(dir: string): Promise<void> {
  try {
    await using folder = await open(dir, 'r');
    await folder.sync();
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return await flushFolder(dirname(dir));
    // Not every file system flushes a folder (EINVAL of fsync(2)), nor may everybody who writes into one open it.
    if (!['EINVAL', 'ENOTSUP', 'EACCES'].includes(code)) throw error;
  }
}

/** Takes empty folders away, up to `top`: in S3 there are none. */
export async function tidy(dir: string, top: string): Promise<void> {
  for (let each = dir; each.startsWith(`${top}/`); each = dirname(each)) {
    try {
      await rmdir(each);
    } catch {
      return;
    }
  }
}

/** For a catch: undefined where nothing is. */
export function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined;
  throw error;
}
