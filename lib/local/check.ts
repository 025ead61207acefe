import { lstat, readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { kindOf, messageOf } from '../errors.ts';
import { type Expected, feedFile, Verifier } from '../integrity.ts';
import type { ManifestFile } from '../manifest.ts';
import type { Progress } from '../progress.ts';
import { mapLimited } from '../transfer/pool.ts';
import { safeJoin, writeAtomically } from '../workspace.ts';

/** How a file differs from what a manifest says. */
export interface FileFault {
  path: string;
  fault: 'missing' | 'extra' | 'size' | 'checksum';
  /** In words, behind the path. */
  text: string;
}

/** When each file was changed last (ms) at the time its bytes were known to be right, by path. */
export type Stamps = ReadonlyMap<string, number>;

interface Tools {
  progress: Progress;
  signal: AbortSignal;
}

const checksAtOnce = 4;

/**
 * Compares files below a folder with a manifest. Sizes always; bytes (sha256) of all of them with `deep`, else of those alone whose time differs
 * from its stamp: without stamps the sizes must do. A link counts as missing: it is not followed.
 */
export async function checkFiles(
  dir: string,
  files: readonly ManifestFile[],
  { deep, stamps }: { deep: boolean; stamps?: Stamps | undefined },
  { progress, signal }: Tools,
): Promise<FileFault[]> {
  const faults: FileFault[] = [];
  const toHash: ManifestFile[] = [];
  await mapLimited(files, 32, async (file) => {
    const info = await lstat(safeJoin(dir, file.path)).catch(ignoreMissing);
    if (!info?.isFile()) faults.push({ path: file.path, fault: 'missing', text: info === undefined ? 'is missing' : 'is no file' });
    else if (info.size !== file.size) {
      faults.push({ path: file.path, fault: 'size', text: `has ${info.size} bytes, expected ${file.size}` });
    } else if (deep || (stamps !== undefined && stamps.get(file.path) !== info.mtimeMs)) toHash.push(file);
  });
  if (toHash.length > 0)
    progress.start(
      'verify',
      toHash.reduce((sum, { size }) => sum + size, 0),
    );
  await mapLimited(toHash, checksAtOnce, async (file) => {
    const found = await hashFile(dir, file, { progress, signal });
    if (typeof found !== 'string') faults.push(found);
  });
  progress.end();
  return faults.sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** Files, links and the like below a folder that belong to no file of a manifest, by path. Folders named in `own`, at the top, are passed over. */
export async function extraFiles(dir: string, files: readonly ManifestFile[], own: readonly string[]): Promise<FileFault[]> {
  const wanted = new Set(files.map(({ path }) => path));
  const entries = await readdir(dir, { withFileTypes: true, recursive: true }).catch(ignoreMissing);
  const paths = (entries ?? []).filter((entry) => !entry.isDirectory()).map((entry) => relative(dir, join(entry.parentPath, entry.name)));
  const extra = paths.filter((path) => !wanted.has(path) && !own.includes(path.split('/')[0] ?? ''));
  return extra.sort().map((path) => ({ path, fault: 'extra', text: 'does not belong there' }));
}

/** The sha256 of a file that has the right bytes, else what is wrong with them. */
export async function hashFile(dir: string, file: Expected, { progress, signal }: Tools): Promise<string | FileFault> {
  const verifier = new Verifier(file);
  const update = (bytes: Uint8Array) => {
    verifier.update(bytes);
    progress.add(bytes.length);
  };
  await feedFile(safeJoin(dir, file.path), { update }, signal);
  try {
    return verifier.finish();
  } catch (error) {
    if (kindOf(error) !== 'integrity') throw error;
    return { path: file.path, fault: 'checksum', text: messageOf(error).replace(/^failed to verify .*?: /, '') };
  }
}

/** The stamps of files that are right now. */
export async function takeStamps(dir: string, files: readonly Expected[]): Promise<Stamps> {
  const times = await mapLimited(files, 32, async ({ path }) => (await lstat(safeJoin(dir, path))).mtimeMs);
  return new Map(files.map(({ path }, index) => [path, times[index] as number]));
}

const stampsName = 'stamps.json';

/** The stamps beside a manifest of that digest; undefined when there are none, or those of another one. */
export async function readStamps(recordDir: string, manifestSha256: string): Promise<Stamps | undefined> {
  try {
    const record = JSON.parse(await readFile(join(recordDir, stampsName), 'utf8')) as {
      manifestSha256: string;
      files: Record<string, number>;
    };
    return record.manifestSha256 === manifestSha256 ? new Map(Object.entries(record.files)) : undefined;
  } catch {
    return undefined;
  }
}

/** Keeps stamps, for the manifest of that digest. */
export async function writeStamps(recordDir: string, manifestSha256: string, stamps: Stamps): Promise<void> {
  await writeAtomically(join(recordDir, stampsName), `${JSON.stringify({ manifestSha256, files: Object.fromEntries(stamps) })}\n`);
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined;
  throw error;
}
