import { defineStep, type StepContext } from '../../lib/define-step.ts';
import { planLine } from '../../lib/dry-run.ts';
import { oneLine } from '../../lib/errors.ts';
import { abandonPlan, findAbandonable, finishPlan } from '../../lib/fanout/finish.ts';
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
  const { commit, prefix } = placeOf(controlPrefix, key);
  const found = await store.get(key);
  const there = found && readPlan(found.bytes, key, `${store.uri}/${key}`);
  const read = planSha256 === undefined || there?.sha256 === planSha256 ? there : undefined;
  if (ctx.dryRun) {
    const uploads = read && (await findAbandonable({ store, controlPrefix, read }));
    ctx.print(showAbandon({ plan: key, uri: `${store.uri}/${prefix}/`, uploads }, ctx.terminal));
  } else if (read) await abandonPlan({ store, log, signal, controlPrefix, concurrency, waitTimeout, read });
  else log.info({ plan: key }, 'nothing to abandon: no such plan');
  return { ...nothing(), commit };
}

/** What giving a plan up would do, as text for people, or as one line of JSON for machines; `uploads` are keys, undefined when the plan holds nothing. */
function showAbandon({ uploads, ...which }: { plan: string; uri: string; uploads: string[] | undefined }, forPeople: boolean): string {
  if (!forPeople) return `${JSON.stringify({ ...which, abandon: uploads !== undefined, uploads: uploads ?? [] })}\n`;
  if (uploads === undefined) return `${which.plan} holds nothing: nothing to abandon\n`;
  const lines = [
    `${which.plan} would be given up`,
    planLine('free', which.uri),
    ...uploads.map((key) => planLine('to abort', oneLine(key))),
  ];
  return `${lines.join('\n')}\n`;
}

/** The results of a run that published nothing. */
function nothing() {
  const names = Object.keys(publishResults) as (keyof typeof publishResults)[];
  return Object.fromEntries(names.map((name) => [name, ''])) as Record<keyof typeof publishResults, string>;
}
