import { basename, dirname } from 'node:path';
import { StepError } from './errors.ts';
import { sha256Of } from './integrity.ts';
import { type Manifest, parseManifest } from './manifest.ts';
import type { manifestResults } from './params/results.ts';
import type { Results } from './results.ts';
import { findManifest, folderAt, manifestResult, readManifestFile } from './workspace.ts';

export type ManifestResults = Results<typeof manifestResults>;

/** True when --skip-tasks names this step, by its own name or by the one its pipeline gives it. */
export function isSkipped(step: string, { skipTasks, taskName }: { skipTasks: readonly string[]; taskName?: string | undefined }): boolean {
  return skipTasks.includes(step) || (taskName !== undefined && skipTasks.includes(taskName));
}

export interface PassOnOptions {
  workspace: string;
  /** Default: the newest. */
  manifest?: string | undefined;
  manifestSha256?: string | undefined;
  /** The newest of this model alone. */
  modelId?: string | undefined;
}

/**
 * The results of a step that leaves the model as it is: those of the manifest named, else of the newest.
 * Throws `not-found` when there is none, `integrity` when it is not what it should be.
 */
export async function passOn({ workspace, manifest, manifestSha256, modelId }: PassOnOptions): Promise<ManifestResults> {
  const path = await findManifest(workspace, manifest, modelId);
  if (basename(path) !== 'manifest.json') throw new StepError('usage', `failed to read manifest ${path}: it must be a manifest.json`);
  const bytes = await readManifestFile(path);
  return resultsOf(workspace, path, parseManifest(bytes, path, manifestSha256), bytes);
}

/** The results that a manifest at that path gives. */
export function resultsOf(workspace: string, path: string, manifest: Manifest, bytes: Uint8Array): ManifestResults {
  return manifestResultsOf(manifestResult(workspace, folderAt(dirname(path))), manifest, bytes);
}

/** The results that a manifest gives under its name: its path in the workspace, or its key in the store. */
export function manifestResultsOf(name: string, { source, files, totalBytes }: Manifest, bytes: Uint8Array): ManifestResults {
  return {
    manifest: name,
    'manifest-sha256': sha256Of(bytes),
    commit: source.commit,
    'file-count': String(files.length),
    'total-bytes': String(totalBytes),
  };
}
