import { mkdir, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Derivation } from '../../lib/compression/derivation.ts';
import type { Given } from '../../lib/compression/wanted.ts';
import { explain, StepError } from '../../lib/errors.ts';
import { sha256Of } from '../../lib/integrity.ts';
import { makeManifest, manifestBytes } from '../../lib/manifest.ts';
import { archiveMethod } from '../../lib/methods.ts';
import { tarEnd, tarSize } from '../../lib/tar.ts';
import { showBytes } from '../../lib/units.ts';
import { version } from '../../lib/version.ts';
import { checkFreeSpace, modelFolder, safeJoin, sourceOf, writeAtomically } from '../../lib/workspace.ts';
import { ArchiveFile, framesOf, type Member, type Written } from './archive-file.ts';
import type { Found } from './source.ts';
import type { Tools, Way, Work } from './work.ts';

const archiveName = 'model.tar.zst';

/** Reads what was asked for. Throws `usage` with all options that mean nothing for an archive. */
export function archiving({ groupSize, ignore, targets, arithmetic }: Omit<Given, 'method'>): Way {
  const faults = [
    ...(groupSize === undefined ? [] : ['--group-size']),
    ...(ignore.length === 0 ? [] : ['--ignore']),
    ...(targets.join() === 'Linear' ? [] : ['--targets']),
    ...(arithmetic === 'f32' ? [] : ['--arithmetic']),
  ];
  if (faults.length > 0) throw new StepError('usage', `failed to read parameters: an archive has no ${faults.join(', ')}`);
  const derivation = { method: archiveMethod, config: {}, suffix: `-${archiveMethod}` };
  return { ...derivation, plan: async (source) => archiveWork(source, derivation) };
}

/** Packs a model as it lies in a workspace, manifest included, so that it can be unpacked into one. */
function archiveWork(source: Found, derivation: Derivation): Work {
  const members = membersOf(source);
  const size = sizeOf(members) + tarEnd().length;
  const { totalBytes, files } = source.manifest;
  return {
    counts: { files: files.length },
    dropped: [],
    files: 1,
    bytes: undefined,
    show: (folder, forPeople) =>
      forPeople
        ? `archive into ${folder}\n  before    ${showBytes(totalBytes)}\n  after     at most ${showBytes(size)}: known once it is packed\n`
        : `${JSON.stringify({ method: archiveMethod, folder, bytesBefore: totalBytes, bytesAfter: null, bytesToWrite: null, tarBytes: size })}\n`,
    make: async (folder, tools) => {
      const derived = { method: derivation.method, config: derivation.config, fromManifestSha256: sha256Of(source.bytes) };
      // From here to the end the folder is not what a manifest says.
      await rm(folder.manifest, { force: true });
      const partial = join(folder.partial, archiveName);
      const planId = sha256Of(JSON.stringify([version, process.versions.zstd, derived]));
      const { size, sha256 } = await writeArchive(members, partial, planId, tools);
      const target = safeJoin(folder.files, archiveName);
      await mkdir(folder.files, { recursive: true });
      await rename(partial, target);
      const { source: origin, selection } = source.manifest;
      const manifest = makeManifest({ source: origin, selection, files: [{ path: archiveName, size, sha256 }], derived });
      const bytes = manifestBytes(manifest);
      const said = await sourceOf(source.folder);
      if (said) await writeAtomically(folder.source, said);
      await writeAtomically(folder.manifest, bytes);
      await rm(folder.partial, { recursive: true, force: true });
      return { manifest, bytes };
    },
  };
}

/** Under the folder's name in every workspace; sorted by path, which puts the manifest last: half of an archive is no model. */
function membersOf({ manifest, bytes, folder }: Found): Member[] {
  const { source, selection, files } = manifest;
  const root = modelFolder('', source.repo, source.commit, { ...selection }).dir;
  const members = files.map(({ path, size, sha256 }) => ({
    path: `${root}/files/${path}`,
    size,
    sha256,
    from: safeJoin(folder.files, path),
  }));
  const own = { path: `${root}/manifest.json`, size: bytes.length, sha256: sha256Of(bytes), from: bytes };
  return [...members, own].sort((a, b) => (a.path < b.path ? -1 : 1));
}

function sizeOf(members: readonly Member[]): number {
  return members.reduce((sum, { path, size }) => sum + tarSize(path, size), 0);
}

/** Writes all frames, from the one that an ended run of the same plan did not finish. */
async function writeArchive(members: readonly Member[], path: string, planId: string, { log, progress, signal }: Tools): Promise<Written> {
  const recordPath = `${path}.json`;
  const frames = framesOf(members);
  const before = await readRecord(recordPath, planId);
  await mkdir(dirname(path), { recursive: true });
  const known = before && (await ArchiveFile.goOn(path, before, signal));
  // What is of no use makes room first.
  const archive = known ?? (await ArchiveFile.create(path));
  const begin = known ? (before?.frames ?? 0) : 0;
  if (begin > 0) log.info({ frames: begin, of: frames.length }, 'going on with the archive of an ended run');
  const bytesOf = (some: readonly Member[]) => some.reduce((sum, { size }) => sum + size, 0);
  progress.start('archive', bytesOf(members));
  progress.add(bytesOf(frames.slice(0, begin).flat()));
  try {
    await checkFreeSpace(dirname(path), sizeOf(frames.slice(begin).flat()));
    for (const [index, frame] of frames.entries()) {
      if (index < begin) continue;
      signal.throwIfAborted();
      await archive.add(frame, index === frames.length - 1, signal, (bytes) => progress.add(bytes));
      await writeAtomically(recordPath, JSON.stringify({ planId, ...archive.soFar(index + 1) }));
    }
    return archive.soFar(frames.length);
  } catch (error) {
    signal.throwIfAborted();
    throw explain('archive the model', error);
  } finally {
    progress.end();
    await archive.close();
  }
}

async function readRecord(path: string, planId: string): Promise<Written | undefined> {
  try {
    const record = JSON.parse(await readFile(path, 'utf8')) as Written & { planId: string };
    return record.planId === planId ? record : undefined;
  } catch {
    return undefined;
  }
}
