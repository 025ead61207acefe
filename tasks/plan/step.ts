import { defineStep } from '../../lib/define-step.ts';
import { balanceOf, byPath, cut } from '../../lib/fanout/cut.ts';
import { makePlan } from '../../lib/fanout/make.ts';
import { planKey, shardNames } from '../../lib/fanout/place.ts';
import { type Plan, planBytes, type ReadPlan } from '../../lib/fanout/record.ts';
import { withShards } from '../../lib/fanout/show.ts';
import { hubOf } from '../../lib/hub/connection.ts';
import { hubBytes, hubContent } from '../../lib/hub/content.ts';
import { lintHub } from '../../lib/hub/lint.ts';
import { listFiles } from '../../lib/hub/list.ts';
import { resolveRevision } from '../../lib/hub/resolve.ts';
import { sourceRecord } from '../../lib/hub/source-record.ts';
import { sha256Of } from '../../lib/integrity.ts';
import { checkServing } from '../../lib/lint/gate.ts';
import { lintProfileOf } from '../../lib/lint/lint.ts';
import { namesOf, prefixOf, versionsPrefix } from '../../lib/naming.ts';
import { openStore } from '../../lib/open-store.ts';
import { schema } from '../../lib/params/declare.ts';
import {
  copyParams,
  hubParams,
  lintParams,
  modelParams,
  namingParams,
  networkParams,
  policyParams,
  publishParams,
  runParams,
  s3Params,
  selectionParams,
  storeDirParams,
  transferParams,
  waitParams,
} from '../../lib/params/groups.ts';
import { checkPaths } from '../../lib/paths.ts';
import { checkContent, checkKnown } from '../../lib/policy/policy.ts';
import { prefixesToCopyFrom } from '../../lib/publish/copies.ts';
import { cuttingOf } from '../../lib/publish/part-size.ts';
import { showPlan } from '../../lib/publish/plan.ts';
import { planPublish } from '../../lib/publish/publish.ts';
import { selectFiles } from '../../lib/selection.ts';
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
      ...namingParams,
      ...selectionParams,
      ...hubParams,
      ...s3Params,
      ...storeDirParams,
      ...publishParams,
      ...copyParams,
      ...policyParams,
      ...lintParams,
      ...runParams,
      ...waitParams,
      concurrency: transferParams.concurrency,
      retries: transferParams.retries,
      stallTimeout: transferParams.stallTimeout,
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
  async run(params, ctx) {
    const { modelId, revision, keyTemplate, controlPrefix, concurrency, allowPatterns, ignorePatterns, profile } = params;
    const { replace, rayHash, hold: holdMs, runId, waitTimeout, allowUnsafe } = params;
    const store = openStore(params, ctx);
    const hub = hubOf(params, ctx);
    const info = await resolveRevision(hub, modelId, revision);
    const source = { repo: modelId, commit: info.commit };
    const selection = { allowPatterns, ignorePatterns, profile };
    const files = selectFiles(await listFiles(hub, modelId, info.commit), selection).sort(byPath);
    const paths = files.map(({ path }) => path);
    checkPaths(paths);
    checkKnown(params, { license: info.license, paths }, ctx.log);
    const names = namesOf(source, params);
    const prefix = prefixOf(keyTemplate, source, names, controlPrefix);
    const versions = versionsPrefix(keyTemplate, source, names);
    const shards = cut(files, params.shards);
    const copyFrom = prefixesToCopyFrom(store, params.copyFrom);
    const places = { prefix, versionsPrefix: versions, copyFrom };
    const record: Plan = { schemaVersion: 1, source, selection, ...places, allowUnsafe, replace, rayHash, holdMs, runId, shards };
    const made: ReadPlan = { plan: record, key: planKey(controlPrefix, prefix, info.commit), sha256: sha256Of(planBytes(record)) };
    const common = {
      store,
      log: ctx.log,
      signal: ctx.signal,
      content: hubContent({ hub, source, selection, files, concurrency }),
      source: Buffer.from(sourceRecord(hub, modelId, revision, info)),
      prefix,
      controlPrefix,
      copyFrom,
      replace,
      rayHash,
      concurrency,
    };
    const mayServe = async (signal: AbortSignal) => {
      const findings = () => lintHub({ hub, source }, files, lintProfileOf({ selection }), signal);
      await checkServing(findings, { ...params, uri: `${store.uri}/${prefix}/`, log: ctx.log });
    };
    if (ctx.dryRun) {
      const uri = `${store.uri}/${prefix}/`;
      const publishing = await planPublish({ ...common, versionsPrefix: versions });
      // As its shards would cut them, with what they have by default.
      const cut = cuttingOf({
        partSize: parseBytes(transferParams.partSize.default) as number,
        maxMemory: parseBytes(transferParams.maxMemory.default) as number,
        concurrency,
      });
      const plan = { ...publishing, source, terms: info, cut, limits: store.limits };
      ctx.print(withShards(showPlan(uri, plan, ctx.terminal), record, ctx.terminal));
      if (!publishing.unchanged) await mayServe(ctx.signal);
      return { commit: info.commit, plan: '', 'plan-sha256': '', shards: '' };
    }
    const byName = new Map(files.map((file) => [file.path, file]));
    const open = async (path: string) => hubBytes({ hub, source }, byName.get(path) as (typeof files)[number]);
    const inspect = async (signal: AbortSignal) => {
      await mayServe(signal);
      await checkContent({ policy: params, files, open, concurrency, signal, log: ctx.log });
    };
    const published = await makePlan({ ...common, waitTimeout, inspect }, made);
    if (published) {
      ctx.log.info({ uri: `${store.uri}/${prefix}/` }, 'already published: its shards have nothing to do');
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
