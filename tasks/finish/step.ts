import { defineStep, type StepContext } from '../../lib/define-step.ts';
import { abandonPlan, finishPlan } from '../../lib/fanout/finish.ts';
import { openPlan } from '../../lib/fanout/open.ts';
import { placeOf } from '../../lib/fanout/place.ts';
import { readPlan } from '../../lib/fanout/record.ts';
import { openStore } from '../../lib/open-store.ts';
import { schema, type ValuesOf } from '../../lib/params/declare.ts';
import { planParams, waitParams } from '../../lib/params/groups/runs.ts';
import { s3Params, storeDirParams } from '../../lib/params/groups/store.ts';
import { networkParams, requestParams, transferParams } from '../../lib/params/groups/transfer.ts';
import { publishResults } from '../../lib/params/results.ts';
import { controlKeys } from '../../lib/publish/control.ts';
import type { PublishOutcome } from '../../lib/publish/publish.ts';
import { publishedResults } from '../../lib/publish/results.ts';
import { storeFaults } from '../../lib/s3-settings.ts';

const { manifest: _, ...finishResults } = publishResults;

const params = schema(
  {
    ...planParams,
    abandon: {
      type: 'boolean',
      description: 'Give the plan up instead: abort its uploads, drop its claim.',
      default: false,
      'x-group': 'Plan',
    },
    ...s3Params,
    ...storeDirParams,
    ...waitParams,
    concurrency: transferParams.concurrency,
    ...requestParams,
    ...networkParams,
  },
  ['plan'],
);

type Params = ValuesOf<typeof params>;

export const finish = defineStep({
  name: 'finish',
  summary: 'Verifies what the shards of a plan brought, and publishes the model.',
  params,
  results: { ...finishResults, manifest: 'Key of the manifest in the store.' },
  faults: storeFaults,
  async run(params, ctx) {
    if (params.abandon) return await abandon(params, ctx);
    const { controlPrefix, concurrency, waitTimeout } = params;
    const store = openStore(params, ctx);
    const { log, signal } = ctx;
    const opened = await openPlan({ ...params, store, log, signal });
    const uri = `${store.uri}/${opened.place.prefix}/`;
    if ('published' in opened) log.info({ uri }, 'already published, nothing to do');
    if (ctx.dryRun) {
      const state = 'published' in opened ? 'published already' : `a plan of ${opened.read.plan.shards.length} shards`;
      ctx.print(ctx.terminal ? `${uri}: ${state}\n` : `${JSON.stringify({ uri, published: 'published' in opened })}\n`);
      return { ...nothing(), commit: opened.place.commit };
    }
    const outcome: PublishOutcome =
      'published' in opened
        ? { ...opened.published, uploadedBytes: 0, copiedBytes: 0, unchanged: true }
        : await finishPlan({ store, log, signal, controlPrefix, concurrency, waitTimeout, read: opened.read });
    return publishedResults(outcome, uri, controlKeys(controlPrefix, opened.place.prefix).manifest);
  },
});

/** Safe to call at the end of any run: what another run planned in the same place since, and what is published, is left alone. */
async function abandon(params: Params, ctx: StepContext) {
  const { controlPrefix, plan: key, planSha256, concurrency, waitTimeout } = params;
  const { log, signal } = ctx;
  const store = openStore(params, ctx);
  const { commit } = placeOf(controlPrefix, key);
  const found = await store.get(key);
  const read = found && readPlan(found.bytes, key, `${store.uri}/${key}`);
  if (!read || (planSha256 !== undefined && read.sha256 !== planSha256)) log.info({ plan: key }, 'nothing to abandon: no such plan');
  else if (ctx.dryRun) ctx.print(`would abandon ${key}\n`);
  else await abandonPlan({ store, log, signal, controlPrefix, concurrency, waitTimeout, read });
  return { ...nothing(), commit };
}

/** The results of a run that published nothing. */
function nothing() {
  const names = Object.keys(publishResults) as (keyof typeof publishResults)[];
  return Object.fromEntries(names.map((name) => [name, ''])) as Record<keyof typeof publishResults, string>;
}
