import { utimes } from 'node:fs/promises';
import { resolve } from 'node:path';
import { defineStep, type StepContext } from '../../lib/define-step.ts';
import { linkIntoCache } from '../../lib/hf-cache.ts';
import { sha256Of } from '../../lib/integrity.ts';
import { type FetchSource, report } from '../../lib/metrics.ts';
import { namesStore, prefixIn, withBucketOfUri } from '../../lib/model-uri.ts';
import { openStore } from '../../lib/open-store.ts';
import { schema, type ValuesOf } from '../../lib/params/declare.ts';
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
import type { Store } from '../../lib/store.ts';
import { manifestResult } from '../../lib/workspace.ts';
import { bringFirst } from './bring.ts';
import { fillStore } from './fill.ts';
import { placeModel } from './place.ts';
import { requestFaults, requestKey } from './request.ts';
import { type FetchPlan, showPlan } from './show-plan.ts';
import { checkNamedFolder, type LocalModel, localCopy, placeAt, placeInside, remember, type Target } from './target.ts';

const params = schema({
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
});

type Params = ValuesOf<typeof params>;

export const fetch = defineStep({
  name: 'fetch',
  summary: 'Gets a model into a local folder: what is there, else from the store, else from the Hub.',
  params,
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
    const { modelDir, workspace, link } = params;
    const wanted = { target: { workspace, modelDir }, request: requestKey(params) };
    const store = namesStore(params) ? openStore(withBucketOfUri(params), ctx) : undefined;
    const there = params.refresh ? undefined : await localCopy(wanted.target, wanted.request, params.verify, ctx);
    if (ctx.dryRun) {
      await tellPlan(there, params, store, ctx);
      return nothing();
    }
    if (there === undefined && modelDir !== undefined) await checkNamedFolder(modelDir);
    const seconds = () => (performance.now() - startedAt) / 1000;
    const measured = (source: FetchSource | undefined, bytes: number) =>
      measure({ source, bytes, seconds: seconds() }, params, store !== undefined, ctx);
    const { model, source, movedBytes } = there
      ? await takeThere(there)
      : await bring(params, store, wanted, ctx).catch(async (error: unknown) => {
          if (!ctx.signal.aborted) await measured(undefined, 0);
          throw error;
        });
    ctx.log.info({ source, path: model.place.files, bytes: movedBytes, ms: Math.round(seconds() * 1000) }, 'fetched');
    await measured(source, movedBytes);
    if (link !== undefined) {
      const revision = params.modelId === undefined ? 'main' : params.revision;
      const snapshot = await linkIntoCache(link, model.place.files, model.manifest, revision);
      ctx.log.info({ snapshot, hfHome: link }, "linked into huggingface_hub's cache");
    }
    const filled = params.fill && store && !model.filled ? await fill(model, params, store, wanted, ctx) : undefined;
    return {
      source,
      cache: source === 'hub' ? 'miss' : 'hit',
      path: model.place.files,
      bytes: String(movedBytes),
      seconds: seconds().toFixed(3),
      manifest: modelDir === undefined ? manifestResult(workspace, model.place.folder) : '',
      'manifest-sha256': sha256Of(model.bytes),
      commit: model.manifest.source.commit,
      'file-count': String(model.manifest.files.length),
      'total-bytes': String(model.manifest.totalBytes),
      'model-uri': (filled ?? model).uri,
      filled: String(filled !== undefined),
    };
  },
});

/** Where a model is to lie, and what was asked for: as such it is found again there. */
interface Wanted {
  target: Target;
  request: string;
}

interface Fetched {
  model: LocalModel;
  source: FetchSource;
  movedBytes: number;
}

async function tellPlan(there: LocalModel | undefined, params: Params, store: Store | undefined, ctx: StepContext): Promise<void> {
  const { modelDir, workspace } = params;
  const show = (plan: FetchPlan) => ctx.print(showPlan(plan, ctx.terminal));
  if (there) {
    const { commit } = there.manifest.source;
    return show({ source: 'local', files: there.manifest.files, uri: there.uri, commit, path: there.place.files });
  }
  await bringFirst(params, store, ctx, async ({ origin, files, uri, source, folderIn }) =>
    show({ source: origin, files, uri, commit: source.commit, path: resolve(modelDir ?? folderIn(workspace).files) }),
  );
}

async function takeThere(model: LocalModel): Promise<Fetched> {
  // The newest manifest is the one that a next step takes; on a read-only volume there is none.
  if (!model.place.named) await utimes(model.place.folder.manifest, new Date(), new Date()).catch(() => {});
  return { model, source: 'local', movedBytes: 0 };
}

async function bring(params: Params, store: Store | undefined, { target, request }: Wanted, ctx: StepContext): Promise<Fetched> {
  const { modelDir, workspace } = target;
  return await bringFirst(params, store, ctx, async (plan) => {
    const place = modelDir === undefined ? placeAt(plan.folderIn(workspace)) : placeInside(modelDir);
    const { manifest, bytes, movedBytes, wasThere } = await placeModel(plan, place, { ...params, ...ctx });
    const model: LocalModel = { place, manifest, bytes, origin: plan.origin, uri: plan.uri, filled: plan.origin === 's3' };
    await remember(target, request, model);
    return { model, source: wasThere ? 'local' : plan.origin, movedBytes };
  });
}

/** Counts a fetch; without a source it has failed. Never throws. */
async function measure(
  { source, bytes, seconds }: { source: FetchSource | undefined; bytes: number; seconds: number },
  { modelId, modelName, modelUri, fallback, metricsFile, metricsPushUrl }: Params,
  hasStore: boolean,
  ctx: StepContext,
): Promise<void> {
  const order: FetchSource[] = ['local', ...(hasStore ? (['s3'] as const) : []), ...(fallback === 'hub' ? (['hub'] as const) : [])];
  const missed = source === undefined ? order : order.slice(0, order.indexOf(source));
  const sample = { model: modelId ?? modelName ?? modelUri ?? '', source, missed, bytes, seconds };
  await report(sample, { file: metricsFile, pushUrl: metricsPushUrl }, ctx);
}

/** The model as it is once the store has it too; undefined when that did not come about. */
async function fill(model: LocalModel, params: Params, store: Store, { target, request }: Wanted, ctx: StepContext) {
  const prefix = params.modelUri === undefined ? undefined : prefixIn(store.uri, params.modelUri);
  const uri = await fillStore(model, { ...params, ...ctx, store, prefix });
  if (uri === undefined) return undefined;
  const filled = { ...model, uri, filled: true };
  await remember(target, request, filled);
  return filled;
}

/** What a dry run has to give: nothing was brought. */
function nothing() {
  const empty = { source: '', cache: '', path: '', bytes: '0', seconds: '0', manifest: '', 'manifest-sha256': '', commit: '' };
  return { ...empty, 'file-count': '', 'total-bytes': '', 'model-uri': '', filled: 'false' };
}
