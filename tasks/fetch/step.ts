import { utimes } from 'node:fs/promises';
import { resolve } from 'node:path';
import { defineStep } from '../../lib/define-step.ts';
import { linkIntoCache } from '../../lib/hf-cache.ts';
import { sha256Of } from '../../lib/integrity.ts';
import { type FetchSource, report } from '../../lib/metrics.ts';
import { namesStore, prefixIn, withBucketOfUri } from '../../lib/model-uri.ts';
import { openStore } from '../../lib/open-store.ts';
import { schema } from '../../lib/params/declare.ts';
import { existingParams } from '../../lib/params/groups/existing.ts';
import { hubParams } from '../../lib/params/groups/hub.ts';
import { metricsParams } from '../../lib/params/groups/metrics.ts';
import { modelParams, namingParams, selectionParams } from '../../lib/params/groups/model.ts';
import { policyParams } from '../../lib/params/groups/policy.ts';
import { waitParams } from '../../lib/params/groups/runs.ts';
import { s3Params, storeDirParams } from '../../lib/params/groups/store.ts';
import { networkParams, transferParams } from '../../lib/params/groups/transfer.ts';
import { verifyParams } from '../../lib/params/groups/workspace.ts';
import { storeFaults } from '../../lib/s3-settings.ts';
import { manifestResult } from '../../lib/workspace.ts';
import { bringFirst } from './bring.ts';
import { fillStore } from './fill.ts';
import { placeModel } from './place.ts';
import { requestFaults, requestKey } from './request.ts';
import { type FetchPlan, showPlan } from './show-plan.ts';
import { checkNamedFolder, type LocalModel, localCopy, placeAt, placeInside, remember } from './target.ts';

export const fetch = defineStep({
  name: 'fetch',
  summary: 'Gets a model into a local folder: what is there, else from the store, else from the Hub.',
  params: schema({
    ...modelParams,
    ...namingParams,
    ...existingParams,
    link: { type: 'string', description: "Also make it one of huggingface_hub's cache here (HF_HOME)." },
    fallback: { type: 'string', enum: ['hub', 'none'], description: 'Where to go when the store cannot give it.', default: 'hub' },
    fill: { type: 'boolean', description: 'Publish what came from the Hub, for the next one.', default: false },
    refresh: { type: 'boolean', description: 'Ask for the newest commit of a branch, whatever is there.', default: false },
    ...verifyParams,
    select: {
      type: 'string',
      enum: ['all', 'tokenizer', 'config'],
      description: 'Part of the model; config: all but the weights.',
      default: 'all',
    },
    ...selectionParams,
    ...policyParams,
    ...hubParams,
    ...s3Params,
    ...storeDirParams,
    ...waitParams,
    ...transferParams,
    ...metricsParams,
    ...networkParams,
  }),
  results: {
    source: 'Where it came from: local, s3 (the store) or hub.',
    cache: 'hit when the Hub was not needed, else miss.',
    path: 'Folder that holds its files.',
    bytes: 'Bytes that were brought.',
    seconds: 'How long it took.',
    manifest: 'Path of manifest.json, relative to the workspace; empty with --model-dir.',
    'manifest-sha256': 'sha256 of manifest.json, bare hex.',
    commit: 'Commit of the model on the Hub.',
    'file-count': 'Number of files.',
    'total-bytes': 'Bytes of all files.',
    'model-uri': 'Where the model lies in the store; empty when it does not.',
    filled: 'true when this run published what came from the Hub.',
  },
  faults(params) {
    return [...requestFaults(params), ...(namesStore(params) ? storeFaults(withBucketOfUri(params)) : [])];
  },
  async run(params, ctx) {
    const startedAt = performance.now();
    const { log } = ctx;
    const { modelDir, workspace } = params;
    const request = requestKey(params);
    const target = { workspace, modelDir };
    const store = namesStore(params) ? openStore(withBucketOfUri(params), ctx) : undefined;

    const results = (source: FetchSource, model: LocalModel, bytes: number, filled: boolean) => ({
      source,
      cache: source === 'hub' ? 'miss' : 'hit',
      path: model.place.files,
      bytes: String(bytes),
      seconds: ((performance.now() - startedAt) / 1000).toFixed(3),
      manifest: modelDir === undefined ? manifestResult(workspace, model.place.folder) : '',
      'manifest-sha256': sha256Of(model.bytes),
      commit: model.manifest.source.commit,
      'file-count': String(model.manifest.files.length),
      'total-bytes': String(model.manifest.totalBytes),
      'model-uri': model.uri,
      filled: String(filled),
    });

    const there = params.refresh ? undefined : await localCopy(target, request, params.verify, ctx);
    if (ctx.dryRun) {
      const show = (plan: FetchPlan) => ctx.print(showPlan(plan, ctx.terminal));
      if (there) {
        const { commit } = there.manifest.source;
        show({ source: 'local', files: there.manifest.files, uri: there.uri, commit, path: there.place.files });
      } else {
        await bringFirst(params, store, ctx, async ({ origin, files, uri, source, folderIn }) =>
          show({ source: origin, files, uri, commit: source.commit, path: resolve(modelDir ?? folderIn(workspace).files) }),
        );
      }
      return nothing();
    }

    let model = there;
    let source: FetchSource = 'local';
    let movedBytes = 0;
    const measured = async (from: FetchSource | undefined) => {
      const order: FetchSource[] = ['local', ...(store ? (['s3'] as const) : []), ...(params.fallback === 'hub' ? (['hub'] as const) : [])];
      const missed = from === undefined ? order : order.slice(0, order.indexOf(from));
      const asked = params.modelId ?? params.modelName ?? params.modelUri ?? '';
      const seconds = (performance.now() - startedAt) / 1000;
      const targets = { file: params.metricsFile, pushUrl: params.metricsPushUrl };
      await report({ model: asked, source: from, missed, bytes: movedBytes, seconds }, targets, ctx);
    };
    if (model === undefined) {
      if (modelDir !== undefined) await checkNamedFolder(modelDir);
      model = await bringFirst(params, store, ctx, async (plan) => {
        const place = modelDir === undefined ? placeAt(plan.folderIn(workspace)) : placeInside(modelDir);
        const placed = await placeModel(plan, place, { ...params, ...ctx });
        movedBytes = placed.movedBytes;
        if (!placed.wasThere) source = plan.origin;
        const { manifest, bytes } = placed;
        const brought: LocalModel = { place, manifest, bytes, origin: plan.origin, uri: plan.uri, filled: plan.origin === 's3' };
        await remember(target, request, brought);
        return brought;
      }).catch(async (error: unknown) => {
        if (!ctx.signal.aborted) await measured(undefined);
        throw error;
      });
    } else if (modelDir === undefined) {
      // The newest manifest is the one that a next step takes; on a read-only volume there is none.
      await utimes(model.place.folder.manifest, new Date(), new Date()).catch(() => {});
    }
    log.info({ source, path: model.place.files, bytes: movedBytes, ms: Math.round(performance.now() - startedAt) }, 'fetched');
    await measured(source);
    if (params.link !== undefined) {
      const snapshot = await linkIntoCache(
        params.link,
        model.place.files,
        model.manifest,
        params.modelId === undefined ? 'main' : params.revision,
      );
      log.info({ snapshot, hfHome: params.link }, "linked into huggingface_hub's cache");
    }
    let filled = false;
    if (params.fill && store && !model.filled) {
      const prefix = params.modelUri === undefined ? undefined : prefixIn(store.uri, params.modelUri);
      const uri = await fillStore(model, { ...params, ...ctx, store, prefix });
      if (uri !== undefined) {
        filled = true;
        model = { ...model, uri, filled };
        await remember(target, request, model);
      }
    }
    return results(source, model, movedBytes, filled);
  },
});

/** What a dry run has to give: nothing was brought. */
function nothing() {
  const empty = { source: '', cache: '', path: '', bytes: '0', seconds: '0', manifest: '', 'manifest-sha256': '', commit: '' };
  return { ...empty, 'file-count': '', 'total-bytes': '', 'model-uri': '', filled: 'false' };
}
