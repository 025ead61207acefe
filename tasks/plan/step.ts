import { defineStep } from '../../lib/define-step.ts';
import { balanceOf, byPath, cut } from '../../lib/fanout/cut.ts';
import { makePlan } from '../../lib/fanout/make.ts';
import { planKey, shardNames } from '../../lib/fanout/place.ts';
import { type Plan, planBytes, type ReadPlan } from '../../lib/fanout/record.ts';
import { withShards } from '../../lib/fanout/show.ts';
import { hubOf } from '../../lib/hub/connection.ts';
import { hubContent } from '../../lib/hub/content.ts';
import { checkHubServing, inspectHub } from '../../lib/hub/inspection.ts';
import { findTarget } from '../../lib/hub/target.ts';
import { sha256Of } from '../../lib/integrity.ts';
import { openStore } from '../../lib/open-store.ts';
import { schema } from '../../lib/params/declare.ts';
import { hubParams } from '../../lib/params/groups/hub.ts';
import { modelParams, namingParams, pinParams, selectionParams } from '../../lib/params/groups/model.ts';
import { destinationParams } from '../../lib/params/groups/publishing.ts';
import { runParams, waitParams } from '../../lib/params/groups/runs.ts';
import { networkParams, requestParams, transferParams } from '../../lib/params/groups/transfer.ts';
import { cuttingOf } from '../../lib/publish/part-size.ts';
import { showPlan } from '../../lib/publish/plan.ts';
import { planPublish } from '../../lib/publish/publish.ts';
import { storeFaults } from '../../lib/s3-settings.ts';
import { parseBytes, showBytes } from '../../lib/units.ts';

export const plan = defineStep({
  name: 'plan',
  summary: 'Cuts a sync into shards for many pods; finds conflicts before a byte moves.',
  params: schema(
    {
      // The results must stay under 2 KiB, with a name for each shard in them.
      shards: { type: 'integer', minimum: 1, maximum: 64, description: 'Pods at once; never more than there are files.', default: 4 },
      hold: {
        type: 'string',
        'x-unit': 'ms',
        description: 'Hold the target for the plan so long while none of its pods runs.',
        default: '6h',
      },
      ...modelParams,
      ...pinParams,
      ...namingParams,
      ...selectionParams,
      ...hubParams,
      ...destinationParams,
      ...runParams,
      ...waitParams,
      concurrency: transferParams.concurrency,
      ...requestParams,
      ...networkParams,
    },
    ['modelId'],
  ),
  results: {
    commit: 'Commit of the model on the Hub.',
    plan: "Key of the plan's record in the store.",
    'plan-sha256': 'Digest of that record, bare hex.',
    shards: { description: 'A JSON array of the shards: ["0/4", ...], never empty.', list: true },
  },
  faults: storeFaults,
  async run(params, ctx) {
    const { concurrency, allowUnsafe, hold: holdMs, runId, waitTimeout } = params;
    const store = openStore(params, ctx);
    const hub = hubOf(params, ctx);
    const { info, uri, model: found, place } = await findTarget(params, params.modelId, { hub, store, log: ctx.log, signal: ctx.signal });
    const model = { ...found, files: found.files.toSorted(byPath) };
    const { source, selection } = model;
    const { prefix, controlPrefix, versionsPrefix, copyFrom, replace, rayHash } = place;
    const shards = cut(model.files, params.shards);
    const places = { prefix, versionsPrefix, copyFrom };
    const record: Plan = { schemaVersion: 1, source, selection, ...places, allowUnsafe, replace, rayHash, holdMs, runId, shards };
    const made: ReadPlan = { plan: record, key: planKey(controlPrefix, prefix, info.commit), sha256: sha256Of(planBytes(record)) };
    const common = { ...place, content: hubContent(model) };
    const inspection = { params, uri, log: ctx.log };
    if (ctx.dryRun) {
      const publishing = await planPublish(common);
      // As its shards would cut them, with what they have by default.
      const cut = cuttingOf({
        partSize: parseBytes(transferParams.partSize.default) as number,
        maxMemory: parseBytes(transferParams.maxMemory.default) as number,
        concurrency,
      });
      const plan = { ...publishing, source, terms: info, cut, limits: store.limits };
      ctx.print(withShards(showPlan(uri, plan, ctx.terminal), record, ctx.terminal));
      if (!publishing.unchanged) await checkHubServing(model, inspection, ctx.signal);
      return { commit: info.commit, plan: '', 'plan-sha256': '', shards: '' };
    }
    const inspect = (signal: AbortSignal) => inspectHub(model, inspection, signal);
    const published = await makePlan({ ...common, waitTimeout, inspect }, made);
    if (published) {
      ctx.log.info({ uri }, 'already published: its shards have nothing to do');
      const { commit } = published.manifest.source;
      const results = { commit, plan: planKey(controlPrefix, prefix, commit), 'plan-sha256': made.sha256 };
      return { ...results, shards: JSON.stringify(shardNames(1)) };
    }
    const { largest, mean, useful } = balanceOf(shards);
    ctx.log.info({ plan: made.key, shards: shards.length, largest: showBytes(largest), mean: showBytes(mean) }, 'planned');
    if (useful < shards.length) ctx.log.warn({ useful }, 'a file is not split over pods: fewer shards would be as quick');
    return { commit: info.commit, plan: made.key, 'plan-sha256': made.sha256, shards: JSON.stringify(shardNames(shards.length)) };
  },
});
