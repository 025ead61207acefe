import { rm } from 'node:fs/promises';
import { messageOf } from '../../lib/errors.ts';
import { feedFile, Verifier } from '../../lib/integrity.ts';
import { localFiles } from '../../lib/local/files.ts';
import type { Log } from '../../lib/log.ts';
import { type Manifest, makeManifest, manifestBytes, parseManifest, type Selection } from '../../lib/manifest.ts';
import type { Progress } from '../../lib/progress.ts';
import { type ModelFolder, readManifestFile, safeJoin } from '../../lib/workspace.ts';

export interface Wanted {
  source: Manifest['source'];
  selection: Selection;
  /** Hash the files too: else their sizes must do. */
  verify: boolean;
}

interface Tools {
  log: Log;
  progress: Progress;
  signal: AbortSignal;
}

/** The manifest of a run that has ended well, when it is what is wanted now and its files are there; undefined when there is work to do. */
export async function finishedManifest(
  folder: ModelFolder,
  { source, selection, verify }: Wanted,
  tools: Tools,
): Promise<{ manifest: Manifest; bytes: Buffer } | undefined> {
  const bytes = await readManifestFile(folder.manifest).catch(() => undefined);
  if (bytes === undefined) return undefined;
  try {
    const manifest = parseManifest(bytes, folder.manifest);
    const { files } = manifest;
    // Ours is the only form: one that was changed by hand has other bytes.
    if (!manifestBytes(makeManifest({ source, selection, files })).equals(bytes)) return undefined;
    const there = await localFiles(
      folder.files,
      files.map(({ path }) => path),
      true,
    );
    const wrong = files.find(({ path, size }) => there.get(path) !== size);
    if (wrong) {
      tools.log.warn({ path: wrong.path, size: wrong.size, found: there.get(wrong.path) }, 'a file that was there is missing or wrong');
      return undefined;
    }
    if (verify) await hashAll(folder, manifest, tools);
    await rm(folder.partial, { recursive: true, force: true });
    return { manifest, bytes };
  } catch (error) {
    tools.signal.throwIfAborted();
    tools.log.warn({ manifest: folder.manifest, error: messageOf(error) }, 'what is there is not used');
    return undefined;
  }
}

async function hashAll(folder: ModelFolder, { files, totalBytes }: Manifest, { progress, signal }: Tools): Promise<void> {
  progress.start('verify', totalBytes);
  try {
    for (const file of files) {
      const verifier = new Verifier(file);
      const update = (piece: Uint8Array) => {
        verifier.update(piece);
        progress.add(piece.length);
      };
      await feedFile(safeJoin(folder.files, file.path), { update }, signal);
      verifier.finish();
    }
  } finally {
    progress.end();
  }
}
