import { lstat, rm, rmdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { StepContext } from '../../lib/define-step.ts';
import { StepError } from '../../lib/errors.ts';
import { type Expected, sha256Of } from '../../lib/integrity.ts';
import { bringBeside } from '../../lib/local/bring-beside.ts';
import { bringModel } from '../../lib/local/bring-model.ts';
import { checkFiles, hashFile, readStamps, takeStamps, writeStamps } from '../../lib/local/check.ts';
import { withLock } from '../../lib/lock.ts';
import { type Manifest, type ManifestFile, parseManifest } from '../../lib/manifest.ts';
import { parents } from '../../lib/paths.ts';
import { mapLimited } from '../../lib/transfer/pool.ts';
import { insideName, readManifestFile, safeJoin, writeAtomically } from '../../lib/workspace.ts';
import type { Plan } from './plan.ts';
import type { Place } from './target.ts';

export interface PlaceOptions extends Pick<StepContext, 'log' | 'progress' | 'signal'> {
  concurrency: number;
  partSize: number;
  maxMemory: number;
  waitTimeout: number;
  /** Hash what is there already. */
  verify: boolean;
}

export interface Placed {
  manifest: Manifest;
  bytes: Buffer;
  movedBytes: number;
  /** It was there already: another run had brought it. */
  wasThere: boolean;
}

/**
 * Makes a place hold the planned model. One run at a time does so, in whatever pod: the others wait, and find it there. A folder that was named
 * changes only when every file is there, and its manifest is written last. Throws as the reader of the plan does; a rerun goes on from there.
 */
export async function placeModel(plan: Plan, place: Place, options: PlaceOptions): Promise<Placed> {
  const inside = plan.files.find(({ path }) => path.split('/')[0] === insideName);
  if (inside) throw new StepError('refused', `failed to fetch ${inside.path}: our records have their place there`);
  const { log, waitTimeout } = options;
  const { dir, lock } = place.folder;
  const keep = place.named ? place.files : dirname(dirname(dir));
  return await withLock(lock, { log, signal: options.signal, waitTimeout, keep }, async (signal) => {
    const run = { ...options, signal };
    const there = await whatIsThere(plan, place, run);
    if (there) return { ...there, movedBytes: 0, wasThere: true };
    const { files, movedBytes } = place.named
      ? await bringAndSwap(plan, place, run)
      : await bringModel(plan.files, { ...run, open: plan.open, folder: place.folder });
    const { manifest, bytes } = plan.finish(files);
    if (plan.sourceRecord !== undefined) await writeAtomically(place.folder.source, plan.sourceRecord);
    await writeStamps(place.folder.dir, sha256Of(bytes), await takeStamps(place.files, manifest.files));
    await writeAtomically(place.folder.manifest, bytes);
    return { manifest, bytes, movedBytes, wasThere: false };
  });
}

/** The manifest of what is there, when that is what was planned. */
async function whatIsThere(plan: Plan, place: Place, run: PlaceOptions): Promise<{ manifest: Manifest; bytes: Buffer } | undefined> {
  const old = await manifestAt(place);
  if (old === undefined || !plan.finish(old.manifest.files).bytes.equals(old.bytes)) return undefined;
  const stamps = await readStamps(place.folder.dir, sha256Of(old.bytes));
  const faults = await checkFiles(place.files, old.manifest.files, { deep: run.verify, stamps }, run);
  return faults.length === 0 ? old : undefined;
}

async function manifestAt({ folder }: Place): Promise<{ manifest: Manifest; bytes: Buffer } | undefined> {
  try {
    const bytes = await readManifestFile(folder.manifest);
    return { manifest: parseManifest(bytes, folder.manifest), bytes };
  } catch {
    return undefined;
  }
}

/** Brings what the folder lacks beside it, then changes the folder in a moment. What it has already stays where it is. */
async function bringAndSwap(plan: Plan, place: Place, run: PlaceOptions): Promise<{ files: ManifestFile[]; movedBytes: number }> {
  const old = await manifestAt(place);
  const kept = await filesInPlace(plan, place, old, run);
  const wanted = new Set(plan.files.map(({ path }) => path));
  const gone = old?.manifest.files.filter(({ path }) => !wanted.has(path)) ?? [];
  const change = async () => {
    // From here to the end the folder is not what a manifest says.
    await rm(place.folder.manifest, { force: true });
    for (const { path } of gone) await rm(safeJoin(place.files, path), { force: true });
    const folders = new Set(gone.flatMap(({ path }) => parents(path).reverse()));
    for (const folder of folders) await rmdir(safeJoin(place.files, folder)).catch(() => {});
  };
  const missing = plan.files.filter(({ path }) => !kept.has(path));
  const target = { dir: place.files, recordDir: place.folder.dir, change };
  const brought = await bringBeside(missing, target, { ...run, open: plan.open });
  return { files: [...kept.values(), ...brought.files], movedBytes: brought.movedBytes };
}

/** Files that are right where they are: known by the old manifest and unchanged since, else by their bytes. */
async function filesInPlace(
  { files, source }: Plan,
  place: Place,
  old: { manifest: Manifest; bytes: Buffer } | undefined,
  run: PlaceOptions,
): Promise<Map<string, ManifestFile>> {
  const entries = new Map(old?.manifest.files.map((file) => [file.path, file]));
  const sameCommit = old?.manifest.source.repo === source.repo && old.manifest.source.commit === source.commit && !old.manifest.derived;
  const stamps = old && (await readStamps(place.folder.dir, sha256Of(old.bytes)));
  const found = await mapLimited(files, 4, async (file): Promise<ManifestFile[]> => {
    const info = await lstat(safeJoin(place.files, file.path)).catch(() => undefined);
    if (!info?.isFile() || info.size !== file.size) return [];
    const entry = entries.get(file.path);
    const same = entry !== undefined && (file.sha256 === undefined ? sameCommit : file.sha256 === entry.sha256);
    if (same && !run.verify && stamps?.get(file.path) === info.mtimeMs) return [entry];
    if (entry !== undefined && !same && file.sha256 !== undefined) return [];
    return await byBytes(place.files, file, run);
  });
  return new Map(found.flat().map((file) => [file.path, file]));
}

async function byBytes(dir: string, file: Expected, run: PlaceOptions): Promise<ManifestFile[]> {
  const sha256 = await hashFile(dir, file, run);
  return typeof sha256 === 'string' ? [{ path: file.path, size: file.size, sha256 }] : [];
}
