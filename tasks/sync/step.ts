import { randomUUID } from 'node:crypto';
import { defineStep, type StepContext } from '../../lib/define-step.ts';
import { StepError } from '../../lib/errors.ts';
import { hubOf } from '../../lib/hub/connection.ts';
import { type HubModel, hubBytes, hubContent } from '../../lib/hub/content.ts';
import { checkHubServing, inspectHub } from '../../lib/hub/inspection.ts';
import { findTarget } from '../../lib/hub/target.ts';
import { openStore } from '../../lib/open-store.ts';
import { schema, type ValuesOf } from '../../lib/params/declare.ts';
import { compressionParams, reportParams } from '../../lib/params/groups/compression.ts';
import { hubParams } from '../../lib/params/groups/hub.ts';
import { modelParams, namingParams, selectionParams } from '../../lib/params/groups/model.ts';
import { destinationParams } from '../../lib/params/groups/publishing.ts';
import { planParams, runParams, waitParams } from '../../lib/params/groups/runs.ts';
import { networkParams, transferParams } from '../../lib/params/groups/transfer.ts';
import { publishResults } from '../../lib/params/results.ts';
import { Seen } from '../../lib/policy/seen.ts';
import { controlKeys } from '../../lib/publish/control.ts';
import { cuttingOf } from '../../lib/publish/part-size.ts';
import { showPlan } from '../../lib/publish/plan.ts';
import { planPublish, publish, type SendFile } from '../../lib/publish/publish.ts';
import { publishedResults } from '../../lib/publish/results.ts';
import { makeSender } from '../../lib/publish/send.ts';
import { storeFaults } from '../../lib/s3-settings.ts';
import type { Store } from '../../lib/store.ts';
import { Budget } from '../../lib/transfer/budget.ts';
import { BufferPool, bufferBytes } from '../../lib/transfer/buffers.ts';
import { quantizationOnTheWay, syncQuantized } from './quantized.ts';
import { syncShard } from './shard.ts';

const { manifest: _, ...syncResults } = publishResults;
const { removeSource: __, ...quantizationParams } = compressionParams;

const params = schema({
  ...modelParams,
  ...namingParams,
  ...selectionParams,
  ...quantizationParams,
  ...reportParams,
  ...hubParams,
  ...destinationParams,
  ...waitParams,
  ...runParams,
  shard: { type: 'string', description: 'Bring only this shard of --plan, as 0/4, and publish nothing.', 'x-group': 'Plan' },
  ...planParams,
  ...transferParams,
  ...networkParams,
});

type Params = ValuesOf<typeof params>;

export const sync = defineStep({
  name: 'sync',
  summary: 'Brings a model from the Hub into the store with no disk: verified, and quantized if asked, while it streams.',
  params,
  results: { ...syncResults, manifest: 'Key of the manifest in the store.' },
  faults: (given) => [...storeFaults(given), ...askedFaults(given)],
  async run(params, ctx) {
    const { method } = params;
    const asked = whatIsAsked(params);
    const quantization = method === 'none' ? undefined : quantizationOnTheWay({ ...params, method });
    const store = openStore(params, ctx);
    const hub = hubOf(params, ctx);
    const sender = (model: HubModel, seen: Seen) => senderFor(params, ctx, store, model, seen);
    if ('shard' in asked) return await syncShard({ ...params, ...asked, store, hub, sender }, ctx);
    const { modelId } = asked;
    const ends = { hub, store, log: ctx.log, signal: ctx.signal };
    if (quantization) {
      const { outcome, uri, manifest, commit } = await syncQuantized(params, modelId, quantization, ends, ctx);
      return outcome ? publishedResults(outcome, uri, manifest) : nothing(commit);
    }
    const { info, uri, model, place } = await findTarget(params, modelId, ends);
    const { source } = model;
    const common = { ...place, content: hubContent(model) };
    const seen = new Seen();
    const inspection = { params, uri, log: ctx.log, seen };
    if (ctx.dryRun) {
      const plan = await planPublish(common);
      ctx.print(showPlan(uri, { ...plan, source, terms: info, cut: cuttingOf(params), limits: store.limits }, ctx.terminal));
      if (!plan.unchanged) await checkHubServing(model, inspection, ctx.signal);
      return nothing(info.commit);
    }
    const inspect = (signal: AbortSignal) => inspectHub(model, inspection, signal);
    const send = sender(model, seen);
    const { waitTimeout, runId = randomUUID() } = params;
    const outcome = await publish({ ...common, progress: ctx.progress, runId, waitTimeout, inspect, send });
    return publishedResults(outcome, uri, controlKeys(place.controlPrefix, place.prefix).manifest);
  },
});

/** One shard of a plan, or the whole of a model. Throws `usage` when it is neither. */
function whatIsAsked(params: Params): { plan: string; shard: string } | { modelId: string } {
  const { plan, shard, modelId } = params;
  if (plan !== undefined && shard !== undefined) return { plan, shard };
  if (modelId !== undefined && plan === undefined) return { modelId };
  throw new StepError('usage', `failed to read parameters: ${askedFaults(params).join('; ')}`, { hint: 'see --help for every parameter' });
}

function askedFaults({ plan, shard, modelId, method }: Params): string[] {
  if (plan !== undefined && shard === undefined) return ['--plan needs --shard: which shard of it to bring'];
  if (shard !== undefined && plan === undefined) return ["--shard needs --plan: plan's result of that name"];
  if (plan !== undefined) return method === 'none' ? [] : ['--method is for whole models, a plan has parts of one as they are'];
  return modelId === undefined ? ['--model-id is missing (or MODEL_ID, HUGGINGFACE_MODEL in the environment)'] : [];
}

/** Sends files of a model on the Hub as they come, and compares them with what a look into them saw. */
function senderFor({ concurrency, partSize, maxMemory }: Params, ctx: StepContext, store: Store, model: HubModel, seen: Seen): SendFile {
  return makeSender({
    store,
    open: async (file) => seen.compare(file.path, hubBytes(model, file)),
    partSize,
    connections: new Budget(concurrency),
    sources: new Budget(concurrency),
    buffers: new BufferPool(bufferBytes(maxMemory, concurrency)),
    progress: ctx.progress,
  });
}

/** What a dry run has to give: nothing was made. */
function nothing(commit: string) {
  const names = Object.keys(publishResults) as (keyof typeof publishResults)[];
  return { ...(Object.fromEntries(names.map((name) => [name, ''])) as Record<keyof typeof publishResults, string>), commit };
}
