import { lstat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Derivation, isDerivation } from '../../lib/compression/derivation.ts';
import { kindOf, StepError } from '../../lib/errors.ts';
import { sha256Of } from '../../lib/integrity.ts';
import { localFiles } from '../../lib/local/files.ts';
import { placeOf } from '../../lib/local/open-file.ts';
import { type Manifest, parseManifest } from '../../lib/manifest.ts';
import { mapLimited } from '../../lib/transfer/pool.ts';
import { findManifest, folderAt, type ModelFolder, modelFolder, readManifestFile, safeJoin } from '../../lib/workspace.ts';

/** A manifest of the workspace and its folder. */
export interface Found {
  manifest: Manifest;
  bytes: Buffer;
  path: string;
  folder: ModelFolder;
}

export interface Asked {
  workspace: string;
  manifest?: string | undefined;
  manifestSha256?: string | undefined;
}

/**
 * The model to compress, or what became of it: the manifest named, else the newest. Where that one was made by compress before, its source, unless it is what
 * is wanted now; where it was taken away by --remove-source, what was made of it. Throws `refused` for a model that was made in another way.
 */
export async function findSource({ workspace, manifest: named, manifestSha256 }: Asked, wanted: Derivation): Promise<Found> {
  const path = await findManifest(workspace, named);
  const found = await read(path, manifestSha256).catch(async (error: unknown) => {
    const made =
      kindOf(error) === 'not-found'
        ? await read(join(`${dirname(path)}${wanted.suffix}`, 'manifest.json')).catch(() => undefined)
        : undefined;
    if (made === undefined || !isDerivation(made.manifest, wanted, manifestSha256)) throw error;
    return made;
  });
  const { derived, source, selection } = found.manifest;
  if (derived === undefined || isDerivation(found.manifest, wanted)) return found;
  const before = modelFolder(workspace, source.repo, source.commit, { ...selection });
  const original = named === undefined ? await read(before.manifest, derived.fromManifestSha256).catch(() => undefined) : undefined;
  if (original) return original;
  throw new StepError('refused', `failed to compress ${found.path}: it was made by ${derived.method} already`, {
    hint: 'give the --manifest of the model as it was downloaded',
  });
}

/** A manifest and its folder. Throws `not-found`, and `integrity` when it has not that digest. */
export async function read(path: string, sha256?: string): Promise<Found> {
  const bytes = await readManifestFile(path);
  return { manifest: parseManifest(bytes, path, sha256), bytes, path, folder: folderAt(dirname(path)) };
}

/** Throws `refused` when a file of the source is a link that leads out of its folder, or a folder that is written to is a link itself. */
export async function checkLinks(source: Found, output: ModelFolder): Promise<void> {
  for (const dir of [output.files, output.partial]) await localFiles(dir, [], false);
  await mapLimited(source.manifest.files, 16, async ({ path }) => await placeOf(source.folder.files, path));
}

/** The manifest of a finished run in a folder, when it is what is wanted now, made of that source; undefined when there is work to do. */
export async function finishedOutput(folder: ModelFolder, wanted: Derivation, source: Found): Promise<Found | undefined> {
  const found = await read(folder.manifest).catch(() => undefined);
  if (found === undefined || !isDerivation(found.manifest, wanted, sha256Of(source.bytes))) return undefined;
  for (const { path, size } of found.manifest.files) {
    const info = await lstat(safeJoin(folder.files, path)).catch(() => undefined);
    if (!info?.isFile() || info.size !== size) return undefined;
  }
  return found;
}
