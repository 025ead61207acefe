import { rm } from 'node:fs/promises';
import { isDerivation } from '../../lib/compression/derivation.ts';
import { sharesOf } from '../../lib/compression/memory.ts';
import { derivedFrom, type NewModel, newModelOf } from '../../lib/compression/new-model.ts';
import { makingSender } from '../../lib/compression/sender.ts';
import type { ErrorsByModule } from '../../lib/compression/shard-run.ts';
import { type Given, quantizationOf } from '../../lib/compression/wanted.ts';
import { writeReport } from '../../lib/compression/write-report.ts';
import type { StepContext } from '../../lib/define-step.ts';
import { sha256Of } from '../../lib/integrity.ts';
import { openFilesOf } from '../../lib/local/open-file.ts';
import { withLock } from '../../lib/lock.ts';
import type { Derived } from '../../lib/manifest.ts';
import { openStore } from '../../lib/open-store.ts';
import type { GroupValues } from '../../lib/params/declare.ts';
import type { namingParams } from '../../lib/params/groups/model.ts';
import type { destinationParams } from '../../lib/params/groups/publishing.ts';
import type { waitParams } from '../../lib/params/groups/runs.ts';
import type { transferParams } from '../../lib/params/groups/transfer.ts';
import { type ManifestResults, resultsOf } from '../../lib/pass-on.ts';
import { contentOf } from '../../lib/publish/content.ts';
import { controlKeys } from '../../lib/publish/control.ts';
import { checkTerms, diskReads, folderSender, inspectFolder } from '../../lib/publish/from-workspace.ts';
import { findUnchanged, type PublishOptions, type PublishOutcome, publish } from '../../lib/publish/publish.ts';
import { publishingOf } from '../../lib/publish/publishing.ts';
import { version } from '../../lib/version.ts';
import { type ModelFolder, manifestResult, modelFolder, runIdOf, safeJoin, sourceOf, writeAtomically } from '../../lib/workspace.ts';
import { carryOver } from './carry-over.ts';
import { removeSource } from './clear-up.ts';
import { nothingToDo } from './nothing-to-do.ts';
import { planOf } from './quantization.ts';
import { Records } from './records.ts';
import { copyReport, reportField } from './report-files.ts';
import { showPlan } from './show-plan.ts';
import { type Asked, checkLinks, type Found, findSource, goneSource, isWhole, madeIn, originalOf } from './source.ts';

export type FuseParams = Given &
  Asked &
  GroupValues<typeof namingParams> &
  GroupValues<typeof destinationParams> &
  GroupValues<typeof transferParams> &
  GroupValues<typeof waitParams> & { removeSource: boolean; reportDir?: string | undefined };

/**
 * Makes the smaller model and publishes it in one: its weights go from thread to store and are never on the disk. The folder gets all the rest, its
 * manifest last, so that upload finds the model published. Throws as compress and upload do.
 */
export async function fuse(params: FuseParams, ctx: StepContext): Promise<ManifestResults> {
  const { workspace, method, waitTimeout } = params;
  const derivation = quantizationOf(params);
  const store = openStore(params, ctx);
  const found = await findSource(params, derivation);
  const source = isDerivation(found.manifest, derivation) ? await originalOf(found, workspace) : found;
  const { source: origin, selection, totalBytes } = (source ?? found).manifest;
  const folderOf = (suffix: string) => modelFolder(workspace, origin.repo, origin.commit, selection, suffix);
  const folder = folderOf(derivation.suffix);
  const tools = (signal: AbortSignal) => ({ log: ctx.log, signal, waitTimeout });
  if (source) await checkLinks(source, folder);
  const { uri, ...place } = publishingOf(params, store, { ...origin, method });
  if (ctx.dryRun) {
    if (source === undefined) throw goneSource(found);
    const { plan, model } = await planOf(source, derivation, ctx.signal);
    const { files } = (await newModelOf(plan, model, source.manifest, derivedFrom(derivation, source.bytes))).content;
    ctx.print(showPlan(plan, model, { method, folder: uri, totalBytes }, ctx.terminal));
    const counts = { 'file-count': String(files.length), 'total-bytes': String(files.reduce((sum, { size }) => sum + size, 0)) };
    return { manifest: manifestResult(workspace, folder), 'manifest-sha256': '', commit: origin.commit, ...counts };
  }
  return await withLock(folder.lock, { ...ctx, waitTimeout }, async (signal) => {
    const common = { ...place, log: ctx.log, progress: ctx.progress, signal, runId: await runIdOf(folder), waitTimeout };
    const made = await madeIn(folder, derivation, source);
    if (made) {
      const content = contentOf(made.manifest);
      const published = (await findUnchanged({ ...common, content })) !== undefined;
      const whole = !published && (await isWhole(made));
      if (whole) await publishWhole(made, params, { ...common, content, source: await sourceOf(folder) }, uri);
      if (published || whole) {
        await rm(folder.partial, { recursive: true, force: true });
        if (params.removeSource) await removeSource(folderOf(''), made.manifest, tools(signal));
        return await nothingToDo(made, params, ctx);
      }
    }
    if (source === undefined) throw goneSource(found);
    const { plan, model } = await planOf(source, derivation, signal);
    const derived = derivedFrom(derivation, source.bytes);
    const newModel = await newModelOf(plan, model, source.manifest, derived);
    const startedAt = Date.now();
    const { quantized, left } = plan.selected;
    ctx.log.info({ ...origin, method, quantized: quantized.size, left: left.size, bytes: totalBytes, uri }, 'compress started');
    if (model.dropped.length > 0) ctx.log.warn({ files: model.dropped }, 'weights in other formats are not kept');
    const run = { source, folder, derived, newModel, uri };
    const { outcome, errors } = await makeAndPublish(run, params, {
      ...common,
      content: newModel.content,
      source: await sourceOf(source.folder),
    });
    const { manifest, bytes } = outcome;
    if (errors) await writeReport(folder.dir, plan, model, errors, source.manifest, manifest);
    await copyReport(folder, method, params.reportDir, ctx.log);
    await writeAtomically(folder.manifest, bytes);
    await rm(folder.partial, { recursive: true, force: true });
    if (params.removeSource) await removeSource(source.folder, manifest, tools(signal));
    const { uploadedBytes, copiedBytes } = outcome;
    const sums = { bytes: manifest.totalBytes, bytesBefore: totalBytes, uploadedBytes, copiedBytes, ms: Date.now() - startedAt };
    ctx.log.info({ ...origin, method, uri, ...reportField(folder, method), ...sums }, 'compress done');
    return resultsOf(workspace, folder.manifest, manifest, bytes);
  });
}

type Publishing = Omit<PublishOptions, 'send' | 'inspect'>;

interface Run {
  source: Found;
  folder: ModelFolder;
  derived: Derived;
  newModel: NewModel;
  uri: string;
}

/** `errors` of every shard; undefined where not all of them were made by runs from this folder. */
async function makeAndPublish(
  { source, folder, derived, newModel, uri }: Run,
  params: FuseParams,
  options: Publishing,
): Promise<{ outcome: PublishOutcome; errors: ErrorsByModule[] | undefined }> {
  const { store, prefix, controlPrefix, log, signal, progress } = options;
  const { plan, model, content, small } = newModel;
  const { partSize, maxMemory, concurrency } = params;
  checkTerms({ files: content.files, source: options.source }, params, log);
  const shares = sharesOf(plan, { partSize, maxMemory, minPart: store.limits.minPart, readsAhead: false });
  // From here to the end the folder is not what a manifest says.
  await rm(folder.manifest, { force: true });
  const records = new Records<{ path: string; errors: ErrorsByModule }>(
    folder,
    sha256Of(JSON.stringify([version, derived, 'no weights here'])),
  );
  await records.open();
  for (const [path, bytes] of small) await writeAtomically(safeJoin(folder.files, path), bytes);
  await carryOver(model.others, source.folder.files, folder.files, signal);
  if (options.source) await writeAtomically(folder.source, options.source);
  const open = openFilesOf(folder.files);
  const sender = makingSender(newModel, {
    store,
    storedKey: controlKeys(controlPrefix, prefix).stored,
    shards: model.source,
    open,
    shares,
    concurrency,
    reads: diskReads,
    progress,
    onMade: (path, errors) => records.write({ path, errors }),
  });
  const candidate = { files: content.files, selection: source.manifest.selection, folder, uri };
  // Of the others somebody else made the bytes.
  const inspect = (ended: AbortSignal) => inspectFolder(candidate, model.others, params, { signal: ended, log });
  try {
    const outcome = await publish({ ...options, inspect, send: sender.send });
    const written = await Promise.all(plan.shards.map(({ shard }) => records.read(shard.path)));
    const errors = written.flatMap((record) => (record ? [record.errors] : []));
    return { outcome, errors: errors.length === written.length ? errors : undefined };
  } finally {
    await sender.close();
  }
}

/** Publishes a model that an earlier run made on the disk. */
async function publishWhole({ manifest, folder }: Found, params: FuseParams, options: Publishing, uri: string): Promise<void> {
  const { store, progress, log } = options;
  const { files } = manifest;
  checkTerms({ files, source: options.source }, params, log);
  const send = folderSender({ store, open: openFilesOf(folder.files), progress }, params);
  const inspect = (signal: AbortSignal) => inspectFolder({ ...manifest, folder, uri }, files, params, { signal, log });
  await publish({ ...options, send, inspect });
}
