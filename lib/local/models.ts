import { lstat, readdir, readFile, rm, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { withLock } from '../lock.ts';
import type { Log } from '../log.ts';
import { type Manifest, parseManifest } from '../manifest.ts';
import { parents } from '../paths.ts';
import { folderAt, folderInside, type ModelFolder, safeJoin } from '../workspace.ts';

/** A model in a folder of this machine. */
export interface LocalEntry {
  folder: ModelFolder;
  /** Where its files are. */
  files: string;
  manifest: Manifest;
  at: Date;
}

/** Every whole model of a workspace, newest first. Folders that are not ours are passed over. */
export async function localModels(workspace: string): Promise<LocalEntry[]> {
  const found: LocalEntry[] = [];
  for (const repo of await foldersIn(workspace)) {
    for (const version of await foldersIn(join(workspace, repo))) {
      const folder = folderAt(join(workspace, repo, version));
      const entry = await entryAt(folder, folder.files);
      if (entry) found.push(entry);
    }
  }
  return found.sort((a, b) => b.at.getTime() - a.at.getTime());
}

/** The model that lies right in a folder which somebody named; undefined when there is none of ours. */
export async function localModelIn(modelDir: string): Promise<LocalEntry | undefined> {
  return await entryAt(folderInside(modelDir), modelDir);
}

async function entryAt(folder: ModelFolder, files: string): Promise<LocalEntry | undefined> {
  try {
    const [bytes, { mtime }] = await Promise.all([readFile(folder.manifest), lstat(folder.manifest)]);
    return { folder, files, manifest: parseManifest(bytes, folder.manifest), at: mtime };
  } catch {
    return undefined;
  }
}

/** Deletes a local model, its manifest first. Of a folder that somebody named only what is ours goes. Waits for a run that works on it. */
export async function removeLocal(
  { folder, files, manifest }: LocalEntry,
  options: { log: Log; signal: AbortSignal; waitTimeout: number },
): Promise<void> {
  await withLock(folder.lock, options, async (signal) => {
    await rm(folder.manifest, { force: true });
    if (files !== folder.files) await removeFiles(files, manifest, signal);
    else await rm(files, { recursive: true, force: true });
  });
  await rm(folder.dir, { recursive: true, force: true });
  if (files === folder.files) await rmdir(dirname(folder.dir)).catch(() => {});
}

async function removeFiles(dir: string, { files }: Manifest, signal: AbortSignal): Promise<void> {
  for (const { path } of files) {
    signal.throwIfAborted();
    await rm(safeJoin(dir, path), { force: true });
  }
  const folders = [...new Set(files.flatMap(({ path }) => parents(path)))].sort((a, b) => b.length - a.length);
  for (const folder of folders) await rmdir(safeJoin(dir, folder)).catch(() => {});
}

async function foldersIn(dir: string): Promise<string[]> {
  const entries = await readdir(dir, { withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
}
