import { readFile, rm, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { isDerivation } from '../../lib/compression/derivation.ts';
import { defineStep, type StepContext } from '../../lib/define-step.ts';
import { withLock } from '../../lib/lock.ts';
import { archiveMethod } from '../../lib/methods.ts';
import { schema } from '../../lib/params/declare.ts';
import { compressionParams, manifestParams, reportParams, waitParams, workspaceParams } from '../../lib/params/groups.ts';
import { manifestResults } from '../../lib/params/results.ts';
import { isSkipped, passOn, resultsOf } from '../../lib/pass-on.ts';
import { type ModelFolder, manifestResult, modelFolder, writeAtomically } from '../../lib/workspace.ts';
import { archiving } from './archive.ts';
import { clearUp, removeSource } from './clear-up.ts';
import { quantizing } from './quantization.ts';
import { checkLinks, type Found, findSource, finishedOutput } from './source.ts';

export const compress = defineStep({
  name: 'compress',
  summary: 'Makes a smaller model that vLLM loads, by quantizing its weights, or a lossless archive; or passes it on as it is.',
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
    const way = method === archiveMethod ? archiving(params) : quantizing({ ...params, method });
    const source = await findSource(params, way);
    const { waitTimeout } = params;
    const { repo, commit } = source.manifest.source;
    const folderOf = (suffix: string) => modelFolder(workspace, repo, commit, source.manifest.selection, suffix);
    if (isDerivation(source.manifest, way)) {
      const tools = { log, signal: ctx.signal, waitTimeout };
      if (!ctx.dryRun) await clearUp(source.folder, tools);
      if (!ctx.dryRun && params.removeSource) await removeSource(folderOf(''), source.manifest, tools);
      return await nothingToDo(source, params, ctx);
    }
    const folder = folderOf(way.suffix);

    await checkLinks(source, folder);
    const { totalBytes } = source.manifest;
    if (ctx.dryRun) {
      const work = await way.plan(source, ctx.signal);
      ctx.print(work.show(folder.dir, ctx.terminal));
      const counts = { 'file-count': String(work.files), 'total-bytes': String(work.bytes ?? '') };
      return { manifest: manifestResult(workspace, folder), 'manifest-sha256': '', commit, ...counts };
    }

    return await withLock(folder.lock, { log, signal: ctx.signal, waitTimeout }, async (signal) => {
      const finished = await finishedOutput(folder, way, source);
      if (finished) {
        await rm(folder.partial, { recursive: true, force: true });
        if (params.removeSource) await removeSource(source.folder, finished.manifest, { log, signal, waitTimeout });
        return await nothingToDo(finished, params, ctx);
      }
      const startedAt = Date.now();
      const work = await way.plan(source, signal);
      log.info({ model: repo, commit, method, ...work.counts, bytes: totalBytes }, 'compress started');
      if (work.dropped.length > 0) log.warn({ files: work.dropped }, 'weights in other formats are not kept');
      const made = await work.make(folder, { log, progress, signal });
      await copyReport(folder, method, params.reportDir);
      if (params.removeSource) await removeSource(source.folder, made.manifest, { log, signal, waitTimeout });
      log.info(
        { model: repo, commit, method, bytes: made.manifest.totalBytes, bytesBefore: totalBytes, ms: Date.now() - startedAt },
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
    await copyReport(folder, manifest.derived?.method ?? '', reportDir);
  }
  log.info({ manifest: folder.manifest }, 'nothing to do: it is there');
  return resultsOf(workspace, folder.manifest, manifest, bytes);
}

/** For an engine that keeps files of a step, at a place that it knows before. An archive has no report: nothing in it was changed. */
async function copyReport({ dir }: ModelFolder, method: string, reportDir: string | undefined): Promise<void> {
  if (reportDir === undefined || method === archiveMethod) return;
  for (const name of ['report.json', 'report.html']) {
    const bytes = await readFile(join(dir, name));
    await writeAtomically(join(reportDir, name), bytes);
  }
}
