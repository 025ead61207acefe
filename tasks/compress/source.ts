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
  const { derived } = found.manifest;
  if (derived === undefined || isDerivation(found.manifest, wanted)) return found;
  const original = named === undefined ? await originalOf(found, workspace) : undefined;
  if (original) return original;
  throw new StepError('refused', `failed to compress ${found.path}: it was made by ${derived.method} already`, {
    hint: 'give the --manifest of the model as it was downloaded',
  });
}

/** The model as it was downloaded, of which this one was made; undefined when it is not there any more. */
export async function originalOf({ manifest: { source, selection, derived } }: Found, workspace: string): Promise<Found | undefined> {
  const { repo, commit } = source;
  return await read(modelFolder(workspace, repo, commit, { ...selection }).manifest, derived?.fromManifestSha256).catch(() => undefined);
}

/** The manifest in a folder when it is of a model made in this way, of that source where one is given. */
export async function madeIn(folder: ModelFolder, wanted: Derivation, source: Found | undefined): Promise<Found | undefined> {
  const found = await read(folder.manifest).catch(() => undefined);
  return found && isDerivation(found.manifest, wanted, source && sha256Of(source.bytes)) ? found : undefined;
}

/** True when all files of a model are there, by their sizes. */
export async function isWhole({ manifest, folder }: Found): Promise<boolean> {
  for (const { path, size } of manifest.files) {
    const info = await lstat(safeJoin(folder.files, path)).catch(() => undefined);
    if (!info?.isFile() || info.size !== size) return false;
  }
  return true;
}

/** What is said where a made model's files are not here, nor what it was made of. */
export function goneSource({ path }: Found): StepError {
  return new StepError('not-found', `failed to compress the model again: the files of ${path} are not here, nor is what it was made of`, {
    hint: 'run download again, with the same --workspace',
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
  const found = await madeIn(folder, wanted, source);
  return found && (await isWhole(found)) ? found : undefined;
}
