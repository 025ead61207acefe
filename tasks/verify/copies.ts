import type { StepContext } from '../../lib/define-step.ts';
import type { Expected } from '../../lib/integrity.ts';
import { hashFile } from '../../lib/local/check.ts';
import { type LocalEntry, localModelIn, localModels } from '../../lib/local/models.ts';
import { openFilesOf } from '../../lib/local/open-file.ts';
import type { ManifestFile } from '../../lib/manifest.ts';
import type { ByteSource } from '../../lib/publish/send.ts';
import type { VerifyParams } from './params.ts';

/** Files of models on this machine by the sha256 of their bytes. */
export type LocalCopies = ReadonlyMap<string, () => Promise<ByteSource>>;

/**
 * What models here have of the wanted files, in the folder that was named and in the workspace, under whatever name: each was read and has its
 * bytes. A folder of ours that is damaged gives what it has right.
 */
export async function localCopies(
  wanted: readonly ManifestFile[],
  { modelDir, workspace }: Pick<VerifyParams, 'modelDir' | 'workspace'>,
  { progress, signal, log }: Pick<StepContext, 'progress' | 'signal' | 'log'>,
): Promise<LocalCopies> {
  const named = modelDir === undefined ? undefined : await localModelIn(modelDir);
  const models = [...(named ? [named] : []), ...(await localModels(workspace))];
  const found = new Map<string, () => Promise<ByteSource>>();
  for (const { sha256 } of wanted) {
    for (const { entry, file } of holders(models, sha256)) {
      signal.throwIfAborted();
      const digest = await hashFile(entry.files, file, { progress, signal }).catch(() => undefined);
      if (digest !== sha256) continue;
      log.info({ folder: entry.files, path: file.path }, 'this machine has it');
      found.set(sha256, () => openFilesOf(entry.files)(file));
      break;
    }
  }
  return found;
}

function holders(models: readonly LocalEntry[], sha256: string): { entry: LocalEntry; file: Expected }[] {
  return models.flatMap((entry) => entry.manifest.files.filter((file) => file.sha256 === sha256).map((file) => ({ entry, file })));
}
