import { readdir, readFile } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';
import type { StepContext } from '../../lib/define-step.ts';
import { explain, messageOf, StepError } from '../../lib/errors.ts';
import { makeFolder } from '../../lib/folders.ts';
import { sha256Of } from '../../lib/integrity.ts';
import { checkFiles, readStamps } from '../../lib/local/check.ts';
import { type Manifest, parseManifest } from '../../lib/manifest.ts';
import { pathFault } from '../../lib/paths.ts';
import { folderAt, folderInside, insideName, type ModelFolder, writeAtomically } from '../../lib/workspace.ts';

/** Where a model shall lie. */
export interface Target {
  workspace: string;
  /** The folder that the files shall lie right in; undefined: one of the workspace. */
  modelDir: string | undefined;
}

/** Where one model lies, or is brought to. */
export interface Place {
  /** Our records, the lock, and what is on its way. */
  folder: ModelFolder;
  /** What a server is given. */
  files: string;
  /** Somebody named it: it may hold other files, and changes only at the end. */
  named: boolean;
}

/** What stands at a place. */
export interface LocalModel {
  place: Place;
  manifest: Manifest;
  bytes: Buffer;
  /** Where it came from, and the URI in the store, as far as there is one. */
  origin: 's3' | 'hub';
  uri: string;
  /** False when it came from the Hub and has not been published since. */
  filled: boolean;
}

interface FetchRecord {
  request: string;
  /** Relative to the workspace; empty for a folder that was named. */
  folder: string;
  manifestSha256: string;
  origin: 's3' | 'hub';
  uri: string;
  filled: boolean;
}

/** The place in a folder that was named. */
export function placeInside(modelDir: string): Place {
  return { folder: folderInside(modelDir), files: resolve(modelDir), named: true };
}

/** The place of a workspace folder. */
export function placeAt(folder: ModelFolder): Place {
  return { folder, files: resolve(folder.files), named: false };
}

/**
 * What an earlier fetch of the same request left, if it is whole: sizes and times are compared, and bytes where they differ, or of every file
 * with `deep`. Needs no lock and writes nothing, so that a volume may be mounted read-only.
 */
export async function localCopy(
  target: Target,
  request: string,
  deep: boolean,
  { log, progress, signal }: Pick<StepContext, 'log' | 'progress' | 'signal'>,
): Promise<LocalModel | undefined> {
  const record = await readRecord(recordPath(target, request));
  if (record?.request !== request) return undefined;
  const place = target.modelDir === undefined ? placeAt(folderAt(join(target.workspace, record.folder))) : placeInside(target.modelDir);
  try {
    const bytes = await readFile(place.folder.manifest);
    const manifest = parseManifest(bytes, place.folder.manifest, record.manifestSha256);
    const stamps = await readStamps(place.folder.dir, record.manifestSha256);
    const faults = await checkFiles(place.files, manifest.files, { deep, stamps }, { progress, signal });
    const { origin, uri, filled } = record;
    if (faults.length === 0) return { place, manifest, bytes, origin, uri, filled };
    log.warn({ folder: place.files, faults: faults.slice(0, 5).map(({ path, text }) => `${path} ${text}`) }, 'the local copy is damaged');
  } catch (error) {
    signal.throwIfAborted();
    log.info({ folder: place.files, why: messageOf(error) }, 'no local copy that can be used');
  }
  return undefined;
}

/** Keeps for later what was fetched, last of all. */
export async function remember(target: Target, request: string, { place, bytes, origin, uri, filled }: LocalModel): Promise<void> {
  const folder = target.modelDir === undefined ? relative(target.workspace, place.folder.dir) : '';
  const record: FetchRecord = { request, folder, manifestSha256: sha256Of(bytes), origin, uri, filled };
  await writeAtomically(recordPath(target, request), `${JSON.stringify(record)}\n`);
}

/** Throws `refused` when a named folder holds files of somebody else: what is fetched must not be mixed with them. */
export async function checkNamedFolder(modelDir: string): Promise<void> {
  try {
    await makeFolder(modelDir);
    const entries = await readdir(modelDir);
    // Volumes have their own folder at the root.
    const foreign = entries.filter((name) => name !== 'lost+found');
    if (foreign.length === 0 || entries.includes(insideName)) return;
    throw new StepError(
      'refused',
      `failed to fetch into ${modelDir}: files lie there that are not ours: ${foreign.slice(0, 5).join(', ')}`,
      {
        hint: 'give an empty folder to --model-dir',
      },
    );
  } catch (error) {
    throw explain(`fetch into ${modelDir}`, error, 'the folder must be writable for the user that this runs as');
  }
}

function recordPath({ workspace, modelDir }: Target, request: string): string {
  return modelDir === undefined
    ? join(workspace, insideName, 'fetched', `${request.slice(0, 32)}.json`)
    : join(modelDir, insideName, 'fetched.json');
}

async function readRecord(path: string): Promise<FetchRecord | undefined> {
  try {
    const record = JSON.parse(await readFile(path, 'utf8')) as FetchRecord;
    const good = typeof record.request === 'string' && (record.folder === '' || pathFault(record.folder) === undefined);
    return good ? record : undefined;
  } catch {
    return undefined;
  }
}
