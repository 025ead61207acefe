import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { safeJoin } from '../workspace.ts';
import { lintModel } from './lint.ts';
import type { Finding, LintFile, LintProfile } from './model.ts';

/** Lints a model whose files lie in a folder. A file that cannot be read is thrown for. */
export async function lintFolder(dir: string, files: readonly LintFile[], profile: LintProfile): Promise<Finding[]> {
  return await lintModel(files, profile, async ({ path }) => {
    await using file = await open(safeJoin(dir, path), constants.O_RDONLY | constants.O_NOFOLLOW);
    return await file.readFile();
  });
}
