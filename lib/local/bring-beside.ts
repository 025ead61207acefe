import { mkdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Expected } from '../integrity.ts';
import { folderAt, safeJoin } from '../workspace.ts';
import type { Bringing } from './bring.ts';
import { type Brought, bringModel } from './bring-model.ts';

/**
 * Brings files to a place beside a folder first, and puts them into it when every one of them is there and verified: until then the folder is what
 * it was. `change` is called right before, to end what the old files stood for. What an earlier run brought is gone on from.
 */
export async function bringBeside(
  files: readonly Expected[],
  target: { dir: string; recordDir: string; change?: () => Promise<void> },
  work: Omit<Bringing, 'whole' | 'begun' | 'folder'>,
): Promise<Brought> {
  const staging = folderAt(join(target.recordDir, 'staging'));
  const brought = await bringModel(files, { ...work, folder: staging });
  work.signal.throwIfAborted();
  await target.change?.();
  for (const { path } of brought.files) {
    const place = safeJoin(target.dir, path);
    await mkdir(dirname(place), { recursive: true });
    await rename(safeJoin(staging.files, path), place);
  }
  await rm(staging.dir, { recursive: true, force: true });
  return brought;
}
