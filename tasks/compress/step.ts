import { rm } from 'node:fs/promises';
import { isDerivation } from '../../lib/compression/derivation.ts';
import { defineStep } from '../../lib/define-step.ts';
import { StepError } from '../../lib/errors.ts';
import { withLock } from '../../lib/lock.ts';
import { archiveMethod } from '../../lib/methods.ts';
import { schema, type ValuesOf } from '../../lib/params/declare.ts';
import { compressionParams, reportParams } from '../../lib/params/groups/compression.ts';
import { namingParams } from '../../lib/params/groups/model.ts';
import { destinationParams } from '../../lib/params/groups/publishing.ts';
import { waitParams } from '../../lib/params/groups/runs.ts';
import { networkParams, transferParams } from '../../lib/params/groups/transfer.ts';
import { manifestParams, workspaceParams } from '../../lib/params/groups/workspace.ts';
import { manifestResults } from '../../lib/params/results.ts';
import { isSkipped, passOn, resultsOf } from '../../lib/pass-on.ts';
import { storeFaults } from '../../lib/s3-settings.ts';
import { type ModelFolder, manifestResult, modelFolder } from '../../lib/workspace.ts';
import { archiving } from './archive.ts';
import { clearUp, removeSource } from './clear-up.ts';
import { nothingToDo } from './nothing-to-do.ts';
import { quantizing } from './quantization.ts';
import { copyReport, reportField } from './report-files.ts';
import { checkLinks, type Found, findSource, finishedOutput, goneSource, isWhole, originalOf } from './source.ts';
import type { Made, Tools, Way } from './work.ts';

const params = schema({
  ...workspaceParams,
  ...manifestParams,
  ...compressionParams,
  ...reportParams,
  fuseUpload: {
    type: 'boolean',
    description:
      'Publish the smaller model while it is made: its weights never touch the disk.\n\nThe upload behind it finds it published.',
    default: false,
    'x-group': 'Publishing',
  },
  ...namingParams,
  ...destinationParams,
  ...waitParams,
  ...transferParams,
  ...networkParams,
});

type Params = ValuesOf<typeof params>;

export const compress = defineStep({
  name: 'compress',
  summary: 'Makes a smaller model that vLLM loads, by quantizing its weights, or a lossless archive; or passes it on as it is.',
  params,
  results: manifestResults,
  faults: (params) => (params.fuseUpload && params.method !== 'none' && !isSkipped('compress', params) ? storeFaults(params) : []),
  async run(params, ctx) {
    const { workspace, method } = params;
    const { log, progress } = ctx;
    if (method === 'none' || isSkipped('compress', params)) {
      const results = await passOn(params);
      log.info({ manifest: results.manifest, skipped: isSkipped('compress', params), method }, 'the model is passed on as it is');
      return results;
    }
    if (params.fuseUpload) {
      if (method === archiveMethod) {
        throw new StepError('usage', 'failed to read parameters: --fuse-upload sends what is quantized, an archive is none', {
          hint: 'leave it out: upload sends the archive',
        });
      }
      // All that knows a store is read only now: without it this program starts as fast as it did.
      const { fuse } = await import('./fuse.ts');
      return await fuse({ ...params, method }, ctx);
    }
    const way = method === archiveMethod ? archiving(params) : quantizing({ ...params, method });
    const found = await findSource(params, way);
    const { waitTimeout } = params;
    const { selection } = found.manifest;
    const { repo, commit } = found.manifest.source;
    const folderOf = (suffix: string) => modelFolder(workspace, repo, commit, selection, suffix);
    const isMade = isDerivation(found.manifest, way);
    if (isMade && (await isWhole(found))) {
      const tools = { log, signal: ctx.signal, waitTimeout };
      if (!ctx.dryRun) await clearUp(found.folder, tools);
      if (!ctx.dryRun && params.removeSource) await removeSource(folderOf(''), found.manifest, tools);
      return await nothingToDo(found, params, ctx);
    }
    const source = isMade ? await originalOf(found, workspace) : found;
    if (source === undefined) throw goneSource(found);
    const folder = folderOf(way.suffix);

    await checkLinks(source, folder);
    if (ctx.dryRun) {
      const work = await way.plan(source, ctx.signal);
      ctx.print(work.show(folder.dir, ctx.terminal));
      const counts = { 'file-count': String(work.files), 'total-bytes': String(work.bytes ?? '') };
      return { manifest: manifestResult(workspace, folder), 'manifest-sha256': '', commit, ...counts };
    }

    return await withLock(folder.lock, { log, signal: ctx.signal, waitTimeout, keep: workspace }, async (signal) => {
      const finished = await finishedOutput(folder, way, source);
      if (finished) {
        await rm(folder.partial, { recursive: true, force: true });
        if (params.removeSource) await removeSource(source.folder, finished.manifest, { log, signal, waitTimeout });
        return await nothingToDo(finished, params, ctx);
      }
      const made = await make(way, source, folder, params, { log, progress, signal });
      return resultsOf(workspace, folder.manifest, made.manifest, made.bytes);
    });
  },
});

/** Makes the smaller model, the lock held. */
async function make(way: Way, source: Found, folder: ModelFolder, params: Params, tools: Tools): Promise<Made> {
  const { method, waitTimeout } = params;
  const { log, signal } = tools;
  const { source: from, totalBytes } = source.manifest;
  const startedAt = Date.now();
  const work = await way.plan(source, signal);
  log.info({ model: from.repo, commit: from.commit, method, ...work.counts, bytes: totalBytes }, 'compress started');
  if (work.dropped.length > 0) log.warn({ files: work.dropped }, 'weights in other formats are not kept');
  const made = await work.make(folder, tools);
  await copyReport(folder, method, params.reportDir, log);
  if (params.removeSource) await removeSource(source.folder, made.manifest, { log, signal, waitTimeout });
  const sizes = { bytes: made.manifest.totalBytes, bytesBefore: totalBytes };
  const ms = Date.now() - startedAt;
  log.info({ model: from.repo, commit: from.commit, method, ...sizes, ...reportField(folder, method), ms }, 'compress done');
  return made;
}
