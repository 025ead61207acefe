import { readFile, rm, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { withLock } from '../../lib/lock.ts';
import { schema } from '../../lib/params/declare.ts';
import { compressionParams, manifestParams, reportParams, waitParams, workspaceParams } from '../../lib/params/groups.ts';
import { manifestResults } from '../../lib/params/results.ts';
import { isSkipped, passOn, resultsOf } from '../../lib/pass-on.ts';
import { defineStep, type StepContext } from '../../lib/step.ts';
import { type ModelFolder, manifestResult, modelFolder, writeAtomically } from '../../lib/workspace.ts';
import { makeModel } from './make.ts';
import { planModel } from './plan.ts';
import { bytesAfter, showPlan } from './show-plan.ts';
import { type Found, findSource, finishedOutput } from './source.ts';
import { readSourceModel } from './source-model.ts';
import { derivationOf, isDerivation } from './wanted.ts';

export const compress = defineStep({
  name: 'compress',
  summary: 'Makes a smaller model that vLLM loads, by quantizing its weights; or passes it on as it is.',
  params: schema({
    ...workspaceParams,
    ...manifestParams,
    ...compressionParams,
    ...reportParams,
    ...waitParams,
  }),
  results: manifestResults,
  async run(params, ctx) {
    const { workspace, method } = params;
    const { log, progress } = ctx;
    if (method === 'none' || isSkipped('compress', params)) {
      const results = await passOn(params);
      log.info({ manifest: results.manifest, skipped: isSkipped('compress', params), method }, 'the model is passed on as it is');
      return results;
    }
    const derivation = derivationOf({ ...params, method });
    const source = await findSource(params, derivation);
    if (isDerivation(source.manifest, derivation)) return await nothingToDo(source, params, ctx);
    const { repo, commit } = source.manifest.source;
    const folder = modelFolder(workspace, repo, commit, source.manifest.selection, derivation.suffix);

    if (ctx.dryRun) {
      const model = await readSourceModel(source.folder.files, source.manifest);
      const plan = planModel(model, derivation.wanted);
      const { totalBytes } = source.manifest;
      ctx.print(showPlan(plan, model, { method, folder: folder.dir, totalBytes }, ctx.terminal));
      const counts = {
        'file-count': String(model.shards.length + model.others.length + 2),
        'total-bytes': String(bytesAfter(plan, model)),
      };
      return { manifest: manifestResult(workspace, folder), 'manifest-sha256': '', commit, ...counts };
    }

    return await withLock(folder.lock, { log, signal: ctx.signal, waitTimeout: params.waitTimeout }, async (signal) => {
      const finished = await finishedOutput(folder, derivation, source);
      if (finished) {
        await rm(folder.partial, { recursive: true, force: true });
        return await nothingToDo(finished, params, ctx);
      }
      const startedAt = Date.now();
      const model = await readSourceModel(source.folder.files, source.manifest);
      const plan = planModel(model, derivation.wanted);
      const { quantized, left } = plan.selected;
      log.info(
        { model: repo, commit, method, quantized: quantized.size, left: left.size, bytes: source.manifest.totalBytes },
        'compress started',
      );
      if (model.dropped.length > 0) log.warn({ files: model.dropped }, 'weights in other formats are not kept');
      const made = await makeModel(plan, model, { source, folder, derivation }, { log, progress, signal });
      await copyReport(folder, params.reportDir);
      if (params.removeSource) await removeSource(source, { ...ctx, signal });
      const { totalBytes } = made.manifest;
      log.info(
        { model: repo, commit, method, bytes: totalBytes, bytesBefore: source.manifest.totalBytes, ms: Date.now() - startedAt },
        'compress done',
      );
      return resultsOf(workspace, folder.manifest, made.manifest, made.bytes);
    });
  },
});

/** The newest manifest is the one that the next step takes. */
async function nothingToDo(
  { folder, manifest, bytes }: Found,
  { workspace, reportDir }: { workspace: string; reportDir?: string | undefined },
  { log, dryRun }: StepContext,
) {
  if (!dryRun) {
    await utimes(folder.manifest, new Date(), new Date());
    await copyReport(folder, reportDir);
  }
  log.info({ manifest: folder.manifest }, 'nothing to do: it is there');
  return resultsOf(workspace, folder.manifest, manifest, bytes);
}

/** For an engine that keeps files of a step, at a place that it knows before. */
async function copyReport({ dir }: ModelFolder, reportDir: string | undefined): Promise<void> {
  if (reportDir === undefined) return;
  for (const name of ['report.json', 'report.html']) await writeAtomically(join(reportDir, name), await readFile(join(dir, name)));
}

/** The manifest goes first: what it says must be there. Files that both models have stay, by their other name. */
async function removeSource({ folder }: Found, { log, signal }: Pick<StepContext, 'log' | 'signal'>): Promise<void> {
  await withLock(folder.lock, { log, signal }, async () => {
    await rm(folder.manifest, { force: true });
    await rm(folder.files, { recursive: true, force: true });
    await rm(folder.source, { force: true });
    log.info({ folder: folder.dir }, 'the model as it was downloaded is deleted');
  });
}
