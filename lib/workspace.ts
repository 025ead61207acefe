import { randomUUID } from 'node:crypto';
import { lstat, readdir, readFile, rename, rm, statfs, writeFile } from 'node:fs/promises';
import { dirname, isAbsolute, join, relative, resolve, sep } from 'node:path';
import { messageOf, StepError } from './errors.ts';
import { makeFolder } from './folders.ts';
import { sha256Of } from './integrity.ts';
import { pathFault } from './paths.ts';
import { sweepTemporaries, temporaryName } from './temporary.ts';

/** Where things lie in the folder of one model (design section 6). */
export interface ModelFolder {
  /** `<workspace>/<org>--<repo>/<commit>[-s<8 hex>][-<method>[-<8 hex>]]` */
  dir: string;
  files: string;
  /** Bytes that have not arrived whole yet, at the same paths as in `files`. */
  partial: string;
  manifest: string;
  source: string;
  lock: string;
}

export interface Selected {
  allowPatterns: readonly string[];
  ignorePatterns: readonly string[];
  profile: string;
}

/** The folder of a model at a commit; a selection that is not everything has a folder of its own. */
export function modelFolder(workspace: string, repo: string, commit: string, selection: Selected, suffix = ''): ModelFolder {
  const { allowPatterns, ignorePatterns, profile } = selection;
  const everything = allowPatterns.length === 0 && ignorePatterns.length === 0 && profile === 'all';
  const part = everything ? '' : `-s${sha256Of(JSON.stringify([allowPatterns, ignorePatterns, profile])).slice(0, 8)}`;
  return folderAt(join(workspace, repoFolder(repo), `${commit}${part}${suffix}`));
}

/** The parts of a model's folder. */
export function folderAt(dir: string): ModelFolder {
  return {
    dir,
    files: join(dir, 'files'),
    partial: join(dir, 'partial'),
    manifest: join(dir, 'manifest.json'),
    source: join(dir, 'source.json'),
    lock: join(dir, 'lock'),
  };
}

/** Ours inside a folder that holds a model's files right below it, where somebody else named that folder. */
export const insideName = '.modelferry';

/** The parts of a folder that somebody named: its files are brought to a place beside the records, and put in place when all are whole. */
export function folderInside(dir: string): ModelFolder {
  return folderAt(join(dir, insideName));
}

/** Joins a path from a listing to a folder. Throws `refused` when it would leave it. */
export function safeJoin(folder: string, path: string): string {
  const fault = pathFault(path);
  const joined = join(folder, ...path.split('/'));
  if (fault !== undefined || !resolve(joined).startsWith(resolve(folder) + sep)) {
    throw new StepError('refused', `failed to place ${JSON.stringify(path)}: ${fault ?? 'it leaves its folder'}`);
  }
  return joined;
}

/** Writes a file so that a reader sees all of it or none: temp, fsync, rename. What killed runs left beside it goes. */
export async function writeAtomically(path: string, bytes: Uint8Array | string): Promise<void> {
  await makeFolder(dirname(path));
  await sweepTemporaries(dirname(path));
  const temporary = `${path}.${temporaryName()}`;
  try {
    await writeFile(temporary, bytes, { flush: true });
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** One id for all tries from this folder: a retry takes its own claim over at once, which the folder's lock makes safe. */
export async function runIdOf(folder: ModelFolder): Promise<string> {
  const path = join(folder.dir, 'run-id');
  const known = await readFile(path, 'utf8').catch(() => '');
  if (known !== '') return known;
  const fresh = randomUUID();
  await writeAtomically(path, fresh);
  return fresh;
}

/** Throws `refused` when the volume under `dir` has fewer than that many bytes free. */
export async function checkFreeSpace(dir: string, bytes: number): Promise<void> {
  await makeFolder(dir);
  const { bavail, bsize } = await statfs(dir);
  const free = bavail * bsize;
  if (free >= bytes) return;
  throw new StepError('refused', `failed to start: ${dir} has ${free} bytes free, ${bytes} are needed`, {
    hint: 'give a larger volume, or take fewer files with --allow-patterns',
  });
}

/** The path of a manifest as a result gives it: relative to the workspace. */
export function manifestResult(workspace: string, folder: ModelFolder): string {
  return relative(resolve(workspace), resolve(folder.manifest));
}

/**
 * The manifest's path that a step works on: the one named (relative to the workspace, or absolute inside it), else the newest
 * (of that model, when one is given). Throws `not-found` when there is none, `usage` when it lies outside the workspace.
 */
export async function findManifest(workspace: string, named: string | undefined, repo?: string): Promise<string> {
  if (named === undefined) return await newestManifest(workspace, repo);
  const path = isAbsolute(named) ? named : join(workspace, named);
  if (!resolve(path).startsWith(resolve(workspace) + sep)) {
    throw new StepError('usage', `failed to read manifest ${named}: it is outside the workspace ${workspace}`);
  }
  return path;
}

/** Reads a manifest's bytes. Throws `not-found` with what to do. */
export async function readManifestFile(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    throw new StepError('not-found', `failed to read manifest ${path}: ${messageOf(error)}`, {
      hint: 'run download first, with the same --workspace',
    });
  }
}

async function newestManifest(workspace: string, model: string | undefined): Promise<string> {
  const folders = model === undefined ? await foldersIn(workspace) : [repoFolder(model)];
  const found: { path: string; at: number }[] = [];
  for (const repo of folders) {
    for (const version of await foldersIn(join(workspace, repo))) {
      const path = join(workspace, repo, version, 'manifest.json');
      const info = await lstat(path).catch(() => undefined);
      if (info?.isFile()) found.push({ path, at: info.mtimeMs });
    }
  }
  const newest = found.sort((a, b) => b.at - a.at)[0];
  if (newest) return newest.path;
  throw new StepError('not-found', `failed to find a manifest${model === undefined ? '' : ` of ${model}`} in ${workspace}: there is none`, {
    hint: 'run download first, with the same --workspace',
  });
}

/** Volumes hold folders that are not ours and not for us to read, such as lost+found. */
async function foldersIn(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
}

function repoFolder(repo: string): string {
  return repo.replaceAll('/', '--');
}

/** What the Hub said of the model when it was downloaded: the bytes of source.json; undefined where it is not there. */
export async function sourceOf({ source }: ModelFolder): Promise<Buffer | undefined> {
  return await readFile(source).catch(() => undefined);
}
