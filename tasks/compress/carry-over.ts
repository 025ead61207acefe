import { copyFile, link, mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { explain } from '../../lib/errors.ts';
import { feedFile, Verifier } from '../../lib/integrity.ts';
import type { ManifestFile } from '../../lib/manifest.ts';
import { sweepTemporaries, temporaryName } from '../../lib/temporary.ts';
import { safeJoin } from '../../lib/workspace.ts';

/** Where links between the two folders are not to be had: another file system, one without links, or too many of them. */
const noLink = ['EXDEV', 'EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'EMLINK', 'EACCES', 'ENOSYS'];

/**
 * Brings files that stay as they are from one folder to the other: as hard links, which take no space, else as copies. Each is hashed in its new place,
 * and what a killed run left there goes. Throws `integrity` when its bytes are not those of the manifest.
 */
export async function carryOver(files: readonly ManifestFile[], fromDir: string, toDir: string, signal: AbortSignal): Promise<void> {
  for (const dir of new Set(files.map(({ path }) => dirname(safeJoin(toDir, path))))) await sweepTemporaries(dir);
  for (const file of files) {
    signal.throwIfAborted();
    const [from, to] = [safeJoin(fromDir, file.path), safeJoin(toDir, file.path)];
    // No longer than a name may be, whatever the file is called.
    const temporary = join(dirname(to), temporaryName());
    try {
      await mkdir(dirname(to), { recursive: true });
      await link(from, temporary).catch(async (error: NodeJS.ErrnoException) => {
        if (!noLink.includes(error.code ?? '')) throw error;
        await copyFile(from, temporary);
        // A write that was taken may fail later, and only this hears of it.
        await using copy = await open(temporary, 'r+');
        await copy.sync();
      });
      const verifier = new Verifier(file);
      await feedFile(temporary, verifier, signal);
      verifier.finish();
      await rename(temporary, to);
      // Of two names of one file, rename leaves both (rename(2)).
      await rm(temporary, { force: true });
    } catch (error) {
      await rm(temporary, { force: true });
      throw explain(`carry ${file.path} over`, error);
    }
  }
}
