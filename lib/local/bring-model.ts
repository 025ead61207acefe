import { rm } from 'node:fs/promises';
import type { Expected } from '../integrity.ts';
import type { ManifestFile } from '../manifest.ts';
import { checkFreeSpace } from '../workspace.ts';
import { type Bringing, bringFiles, bytesToMove } from './bring.ts';
import { checkCollisions, localFiles } from './files.ts';

export interface Brought {
  files: ManifestFile[];
  /** Bytes that had to come. */
  movedBytes: number;
}

/**
 * Makes a folder hold exactly these files, whole and verified; its manifest goes first, and is the caller's to write when all is done.
 * What an earlier run left there is gone on from. Throws `refused` when the volume is too small or cannot tell two of the paths apart.
 */
export async function bringModel(files: readonly Expected[], work: Omit<Bringing, 'whole' | 'begun'>): Promise<Brought> {
  const { folder, log } = work;
  const paths = files.map(({ path }) => path);
  await checkCollisions(folder.dir, paths);
  // From here to the end the folder is not what a manifest says.
  await rm(folder.manifest, { force: true });
  const [whole, begun] = [await localFiles(folder.files, paths, true), await localFiles(folder.partial, paths, true)];
  const movedBytes = bytesToMove(files, { whole, begun });
  await checkFreeSpace(folder.dir, movedBytes);
  log.info({ folder: folder.dir, files: files.length, bytesToMove: movedBytes }, 'bringing files');
  const brought = await bringFiles(files, { ...work, whole, begun });
  await rm(folder.partial, { recursive: true, force: true });
  return { files: brought, movedBytes };
}
