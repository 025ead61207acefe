import { mkdir, readFile, rename, rmdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { makeFolder } from '../folders.ts';
import { temporaryName } from '../temporary.ts';

/** Writes JSON so that a reader sees all of it or none. */
export async function writeJson(temporary: string, path: string, value: unknown): Promise<void> {
  await writeFile(temporary, JSON.stringify(value));
  await renameInto(temporary, path);
}

/** Undefined when the file is not there or holds no JSON. */
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

/** A rename into a folder that another writer may be tidying away just now. */
export async function renameInto(temporary: string, target: string): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    await mkdir(dirname(target), { recursive: true });
    try {
      return await rename(temporary, target);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || attempt === 10) throw error;
    }
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
