import { lstat, mkdir, open, readdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { StepError } from '../errors.ts';
import { caseCollisions, parents } from '../paths.ts';
import { temporaryName } from '../temporary.ts';

/**
 * The regular files below a folder with their sizes in bytes, by path, as far as they are wanted. All else that is there goes when `prune` is
 * set: files of nobody, links, sockets. Links are never followed; a folder that is one itself is `refused`.
 */
export async function localFiles(dir: string, wanted: readonly string[], prune: boolean): Promise<Map<string, number>> {
  const paths = new Set(wanted);
  const folders = new Set(wanted.flatMap(parents));
  const found = new Map<string, number>();
  const walk = async (folder: string) => {
    for (const entry of await readdir(join(dir, folder), { withFileTypes: true })) {
      const path = folder === '' ? entry.name : `${folder}/${entry.name}`;
      if (entry.isDirectory() && folders.has(path)) await walk(path);
      else if (entry.isFile() && paths.has(path)) found.set(path, (await lstat(join(dir, path))).size);
      else if (prune) await rm(join(dir, path), { recursive: true, force: true });
    }
  };
  const info = await lstat(dir).catch(() => undefined);
  if (info === undefined) return found;
  if (!info.isDirectory()) {
    throw new StepError('refused', `failed to use ${dir}: it is no folder of ours`, { hint: 'remove it; links are not followed' });
  }
  await walk('');
  return found;
}

/** Throws `refused` naming the paths of a listing that this volume takes for one another: some know no case, or compose letters. */
export async function checkCollisions(dir: string, paths: readonly string[]): Promise<void> {
  const colliding = caseCollisions([...paths, ...new Set(paths.flatMap(parents))]);
  if (colliding.length === 0) return;
  const probe = join(dir, `.probe.${temporaryName()}`);
  try {
    const same: string[] = [];
    for (const group of colliding) {
      for (const path of group) {
        const target = join(probe, path, 'probe');
        await mkdir(dirname(target), { recursive: true });
        const file = await open(target, 'wx').catch((error: NodeJS.ErrnoException) => {
          if (error.code !== 'EEXIST') throw error;
          same.push(group.map((one) => JSON.stringify(one)).join(' and '));
        });
        await file?.close();
      }
    }
    if (same.length === 0) return;
    throw new StepError('refused', `failed to accept the listing: ${same.join('; ')} are one file on ${dir}`, {
      hint: 'use a volume that tells upper from lower case, or leave one out with --ignore-patterns',
    });
  } finally {
    await rm(probe, { recursive: true, force: true });
  }
}
