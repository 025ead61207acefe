import { lstat, rm } from 'node:fs/promises';
import type { StepContext } from '../../lib/define-step.ts';
import { kindOf } from '../../lib/errors.ts';
import { withLock } from '../../lib/lock.ts';
import type { Manifest } from '../../lib/manifest.ts';
import type { ModelFolder } from '../../lib/workspace.ts';
import { type Found, read } from './source.ts';

type Tools = Pick<StepContext, 'log' | 'signal'> & { waitTimeout: number };

/** Takes away what a run left that was killed right before its end: the model that it made is whole. Takes no lock when there is nothing. */
export async function clearUp(folder: ModelFolder, tools: Tools): Promise<void> {
  const left = await Promise.all([folder.partial, folder.lock].map((path) => lstat(path).catch(() => undefined)));
  if (left.every((info) => info === undefined)) return;
  await withLock(folder.lock, tools, async () => await rm(folder.partial, { recursive: true, force: true }));
}

/**
 * Deletes the model that a compressed one was made of, and what an ended run left of it: the manifest first, because what it says must be there.
 * Another model that lies there by now stays. Files that both have stay, by their other name.
 */
export async function removeSource(folder: ModelFolder, made: Manifest, tools: Tools): Promise<void> {
  if ((await lstat(folder.dir).catch(() => undefined)) === undefined) return;
  await withLock(folder.lock, tools, async () => {
    if (!(await isSource(folder, made))) return;
    await rm(folder.manifest, { force: true });
    await rm(folder.files, { recursive: true, force: true });
    await rm(folder.source, { force: true });
    tools.log.info({ folder: folder.dir }, 'the model as it was downloaded is deleted');
  });
}

/** True too when there is no manifest any more: nobody can use what is left. */
async function isSource(folder: ModelFolder, { derived }: Manifest): Promise<boolean> {
  try {
    const found: Found = await read(folder.manifest, derived?.fromManifestSha256);
    return found.manifest.derived === undefined;
  } catch (error) {
    return kindOf(error) === 'not-found';
  }
}
