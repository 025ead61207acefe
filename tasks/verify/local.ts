import { rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { StepContext } from '../../lib/define-step.ts';
import { StepError } from '../../lib/errors.ts';
import { type Hub, hubOf } from '../../lib/hub/connection.ts';
import { RemoteFile } from '../../lib/hub/remote-file.ts';
import { sha256Of } from '../../lib/integrity.ts';
import type { RangeReader } from '../../lib/local/bring.ts';
import { bringBeside } from '../../lib/local/bring-beside.ts';
import { checkFiles, extraFiles, type FileFault, readStamps, takeStamps, writeStamps } from '../../lib/local/check.ts';
import { withLock } from '../../lib/lock.ts';
import { type Manifest, type ManifestFile, parseManifest } from '../../lib/manifest.ts';
import { identityOf, knownStart } from '../../lib/naming.ts';
import { openStore } from '../../lib/open-store.ts';
import { copiesFor } from '../../lib/publish/copies.ts';
import { findManifest, folderAt, folderInside, insideName, type ModelFolder, readManifestFile, safeJoin } from '../../lib/workspace.ts';
import type { VerifyParams } from './params.ts';

export interface LocalTarget {
  folder: ModelFolder;
  files: string;
  manifest: Manifest;
  bytes: Buffer;
  named: boolean;
}

/** The local model that is meant: in a folder that was named, else the workspace's, as its manifest says. */
export async function localTarget({ modelDir, workspace, manifest: named, manifestSha256, modelId }: VerifyParams): Promise<LocalTarget> {
  const path = modelDir === undefined ? await findManifest(workspace, named, modelId) : folderInside(modelDir).manifest;
  const bytes = await readManifestFile(path);
  const manifest = parseManifest(bytes, path, manifestSha256);
  const folder = modelDir === undefined ? folderAt(join(path, '..')) : folderInside(modelDir);
  return { folder, files: resolve(modelDir ?? folder.files), manifest, bytes, named: modelDir !== undefined };
}

/** All that is wrong with it. */
export async function checkLocal(
  { folder, files, manifest, bytes, named }: LocalTarget,
  deep: boolean,
  ctx: StepContext,
): Promise<FileFault[]> {
  const stamps = await readStamps(folder.dir, sha256Of(bytes));
  const faults = await checkFiles(files, manifest.files, { deep, stamps }, ctx);
  return [...faults, ...(await extraFiles(files, manifest.files, named ? [insideName, 'lost+found'] : []))];
}

/**
 * Brings back what is wrong, from any published version that has those bytes, else from the Hub; what does not belong there goes, but from a
 * folder that somebody named. Returns the faults that are mended.
 */
export async function repairLocal(
  target: LocalTarget,
  faults: readonly FileFault[],
  params: VerifyParams,
  ctx: StepContext,
): Promise<FileFault[]> {
  const { folder, manifest, named } = target;
  const wrong = manifest.files.filter(({ path }) => faults.some((fault) => fault.path === path && fault.fault !== 'extra'));
  return await withLock(folder.lock, { ...ctx, waitTimeout: params.waitTimeout }, async (signal) => {
    const extra = named ? [] : faults.filter(({ fault }) => fault === 'extra');
    for (const { path } of extra) await rm(safeJoin(target.files, path), { force: true });
    if (wrong.length > 0) {
      const open = await readers(manifest, wrong, params, ctx);
      const clear = async () => {
        // A link or folder in a file's place cannot be renamed over.
        for (const { path } of wrong) await rm(safeJoin(target.files, path), { force: true, recursive: true });
      };
      await bringBeside(wrong, { dir: target.files, recordDir: folder.dir, change: clear }, { ...params, ...ctx, signal, open });
      await writeStamps(folder.dir, sha256Of(target.bytes), await takeStamps(target.files, manifest.files));
    }
    return [...extra, ...faults.filter(({ fault }) => fault !== 'extra')];
  });
}

async function readers(
  manifest: Manifest,
  wrong: readonly ManifestFile[],
  params: VerifyParams,
  ctx: StepContext,
): Promise<(file: { path: string; size: number; sha256?: string | undefined }) => RangeReader> {
  const { repo, commit } = manifest.source;
  const hasStore = params.s3Bucket !== undefined || params.storeDir !== undefined;
  const store = hasStore ? openStore(params, ctx) : undefined;
  const [org, base] = repo.includes('/') ? repo.split('/') : ['', repo];
  const start = knownStart(params.keyTemplate, { org, repo: base, name: params.modelName ?? base });
  const where = { controlPrefix: params.controlPrefix, versionsPrefix: start, prefix: '', log: ctx.log };
  const copies = store && (await copiesFor({ store, ...where }, wrong));
  const method = identityOf(manifest).method;
  const lacking = wrong.filter((file) => !copies?.of(file));
  if (method !== undefined && lacking.length > 0) {
    throw new StepError(
      'not-found',
      `failed to repair ${lacking[0]?.path}: no published version has it, and the Hub has none that is compressed`,
      {
        hint: hasStore ? 'run compress again' : 'give --s3-bucket or --store-dir',
      },
    );
  }
  const hub: Hub = hubOf(params, ctx);
  return (file) => {
    const copy = copies?.of(file)?.info;
    if (copy === undefined || store === undefined) return new RemoteFile(hub, repo, commit, file);
    return { read: (offset, into, onBytes, signal) => store.getRange(copy.key, offset, into, { onBytes, signal }) };
  };
}
