import { access, constants, mkdir, rmdir, stat } from 'node:fs/promises';
import { dirname, resolve, sep } from 'node:path';
import { messageOf, StepError } from './errors.ts';

/**
 * Makes a folder and those above it. Throws the system's error, of a file in its place too. One by one, because Node's own `recursive` says
 * ENOENT of a read-only volume, and never ends where a system takes no folders and says ENOENT (/proc).
 */
export async function makeFolder(dir: string): Promise<void> {
  const missing: string[] = [];
  for (let at = dir; !(await makeOne(at)); at = dirname(at)) missing.unshift(at);
  for (const each of missing) if (!(await makeOne(each))) await mkdir(each);
}

/** False when the folder above is not there. */
async function makeOne(dir: string): Promise<boolean> {
  try {
    await mkdir(dir);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return dirname(dir) === dir;
    if (code !== 'EEXIST') throw error;
    if ((await stat(dir)).isDirectory()) return true;
    throw Object.assign(new Error(`ENOTDIR: not a directory, mkdir '${dir}'`), { code: 'ENOTDIR' });
  }
}

/**
 * Takes a folder away, and those above it up to `keep`, which stays, as far as they are empty: what somebody else has begun in one of them is
 * safe. Throws nothing.
 */
export async function removeEmptyFolders(dir: string, keep: string): Promise<void> {
  const inside = `${resolve(keep)}${sep}`;
  const remove = (at: string) =>
    rmdir(at).then(
      () => true,
      (error: NodeJS.ErrnoException) => error.code === 'ENOENT',
    );
  for (let at = resolve(dir); at.startsWith(inside) && (await remove(at)); at = dirname(at));
}

/** Throws when files cannot come into a folder that is made only later: `usage` of a file in its place, `denied` without the right to write. */
export async function checkFolderToBe(flag: string, dir: string): Promise<void> {
  for (let at = dir; ; at = dirname(at)) {
    try {
      if (!(await stat(at)).isDirectory()) throw new StepError('usage', `failed to use ${flag} ${dir}: ${at} is no folder`);
      return await access(at, constants.W_OK | constants.X_OK);
    } catch (error) {
      if (error instanceof StepError) throw error;
      const { code } = error as NodeJS.ErrnoException;
      if ((code === 'ENOENT' || code === 'ENOTDIR') && dirname(at) !== at) continue;
      throw new StepError('denied', `failed to use ${flag} ${dir}: ${messageOf(error)}`, { cause: error });
    }
  }
}
