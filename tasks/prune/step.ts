import { defineStep, type StepContext } from '../../lib/define-step.ts';
import { messageOf, StepError } from '../../lib/errors.ts';
import { findOldPlans, removeOldPlans } from '../../lib/fanout/old-plans.ts';
import { identityOf, namesOf } from '../../lib/naming.ts';
import { openStore } from '../../lib/open-store.ts';
import { schema, type ValuesOf } from '../../lib/params/declare.ts';
import { yesParams } from '../../lib/params/groups/existing.ts';
import { modelParams, namingParams } from '../../lib/params/groups/model.ts';
import { registryAddressParams } from '../../lib/params/groups/registry.ts';
import { s3Params, storeDirParams } from '../../lib/params/groups/store.ts';
import { networkParams, transferParams } from '../../lib/params/groups/transfer.ts';
import { listPublished } from '../../lib/publish/catalog.ts';
import { controlKeys, readPublished } from '../../lib/publish/control.ts';
import { findLeftovers, type Leftover, removeLeftover } from '../../lib/publish/orphans.ts';
import { removePublished } from '../../lib/publish/remove.ts';
import { placeOf, placesInUse } from '../../lib/registry/in-use.ts';
import { Registry } from '../../lib/registry/registry.ts';
import { storeFaults } from '../../lib/s3-settings.ts';
import type { Store } from '../../lib/store.ts';
import { mapLimited } from '../../lib/transfer/pool.ts';
import { chooseVersions, type Version } from './choose.ts';
import { showGoing } from './show-plan.ts';

const params = schema({
  keep: { type: 'integer', minimum: 0, description: 'Keep so many of the newest versions of each model.' },
  olderThan: { type: 'string', 'x-unit': 'ms', description: 'Delete only versions older than this, such as 30d.' },
  leftovers: { type: 'boolean', description: 'Delete objects without a manifest, stale uploads and old plans, of ours.', default: false },
  leftoversAge: { type: 'string', 'x-unit': 'ms', description: 'Leave what is younger.', default: '1d' },
  modelId: modelParams.modelId,
  modelName: namingParams.modelName,
  ...yesParams,
  ...registryAddressParams,
  ...s3Params,
  ...storeDirParams,
  ...transferParams,
  ...networkParams,
});

type Params = ValuesOf<typeof params>;

export const prune = defineStep({
  name: 'prune',
  summary: 'Deletes old versions from the store, and what killed runs left there; never what the registry has live.',
  params,
  results: {
    'kept-versions': 'Number of versions that stay.',
    'deleted-versions': 'Number of versions that were deleted.',
    'deleted-bytes': 'Bytes of those versions and of objects without one.',
    'deleted-leftovers': 'Number of objects and records without a model that were deleted.',
    'aborted-uploads': 'Number of stale uploads that were aborted.',
  },
  faults: (given) => [...storeFaults(given), ...whatFaults(given)],
  async run(params, ctx) {
    const { keep, olderThan, controlPrefix } = params;
    const { log } = ctx;
    const store = openStore(params, ctx);
    const versions = await versionsIn(store, params, ctx);
    const going = chooseVersions(versions, { keep, olderThan }, store.now());
    const left = params.leftovers ? await findLeftovers(store, { ...params, log, ageMs: params.leftoversAge }) : [];
    const plans = params.leftovers ? await findOldPlans(store, { controlPrefix, ageMs: params.leftoversAge }) : [];
    if (ctx.dryRun) {
      ctx.print(showGoing(going, [...left, ...plans], ctx.terminal));
      return resultsOf(versions, [], []);
    }
    if (!params.yes && ctx.confirm && going.length + left.length + plans.length > 0) {
      const answer = await ctx.confirm(`${showGoing(going, [...left, ...plans], true)}delete all that?`);
      if (!answer) throw new StepError('refused', 'failed to prune: the answer was no');
    }
    const gone: Version[] = [];
    for (const version of going) {
      ctx.signal.throwIfAborted();
      const { prefix, uri, manifest, publishedAt } = version;
      if (!(await orLater(removePublished({ ...params, ...ctx, store, prefix, waitTimeout: 0 }), uri, ctx))) continue;
      gone.push(version);
      log.info({ uri, bytes: manifest.totalBytes, publishedAt }, 'deleted');
    }
    const cleared: Leftover[] = [];
    const clear = async (leftovers: readonly Leftover[], remove: typeof removeLeftover) => {
      for (const leftover of leftovers) {
        ctx.signal.throwIfAborted();
        if (await orLater(remove(store, leftover, { controlPrefix, log, signal: ctx.signal }), leftover.prefix, ctx))
          cleared.push(leftover);
      }
    };
    // What a plan's records name is among the other leftovers, as long as they are there.
    await clear(left, removeLeftover);
    await clear(plans, removeOldPlans);
    return resultsOf(versions, gone, cleared);
  },
});

/** The versions that the parameters mean, with their state in the registry. One whose manifest cannot be read is none: it stays. */
async function versionsIn(store: Store, params: Params, ctx: StepContext): Promise<Version[]> {
  const { controlPrefix, modelId, modelName, concurrency, modelRegistryUrl: url, modelRegistryToken: token } = params;
  const listed = await listPublished(store, params);
  // After the listing: what is registered by now counts.
  const states = url === undefined ? undefined : await placesInUse(new Registry({ ...params, ...ctx, url, token, dryRun: undefined }));
  if (states === undefined) ctx.log.warn('no --model-registry-url is given: nobody says which versions are live');
  const read = await mapLimited(listed, concurrency, async ({ prefix, publishedAt, words }): Promise<Version[]> => {
    const published = await readPublished(store, controlKeys(controlPrefix, prefix).manifest).catch((error: unknown) => {
      ctx.log.warn({ prefix, error: messageOf(error) }, 'a manifest cannot be read: its model stays');
      return undefined;
    });
    if (published === undefined) return [];
    const { manifest } = published;
    const uri = `${store.uri}/${prefix}/`;
    const name = words?.name ?? namesOf(identityOf(manifest), {}).name;
    return [{ prefix, uri, name, manifest, publishedAt, state: states?.get(placeOf(uri)) }];
  });
  ctx.signal.throwIfAborted();
  return read
    .flat()
    .filter(({ name, manifest }) => (modelId ?? manifest.source.repo) === manifest.source.repo && (modelName ?? name) === name);
}

/** What `work` gives; undefined where a run publishes just now: that place is left for next time. */
async function orLater<T>(work: Promise<T>, place: string, { signal, log }: StepContext): Promise<T | undefined> {
  return await work.catch((error: unknown) => {
    signal.throwIfAborted();
    if (!(error instanceof StepError) || error.kind !== 'transient') throw error;
    log.warn({ place, error: error.message }, 'not deleted');
    return undefined;
  });
}

function resultsOf(versions: readonly Version[], deleted: readonly Version[], leftovers: readonly Leftover[]) {
  const objects = leftovers.flatMap((leftover) => leftover.objects);
  const sizes = [...deleted.map(({ manifest }) => manifest.totalBytes), ...objects.map(({ size }) => size)];
  return {
    'kept-versions': String(versions.length - deleted.length),
    'deleted-versions': String(deleted.length),
    'deleted-bytes': String(sizes.reduce((sum, size) => sum + size, 0)),
    'deleted-leftovers': String(objects.length + leftovers.flatMap(({ records }) => records).length),
    'aborted-uploads': String(leftovers.flatMap(({ uploads }) => uploads).length),
  };
}

function whatFaults({ keep, olderThan, leftovers }: { keep?: number; olderThan?: number; leftovers: boolean }): string[] {
  if (keep === undefined && olderThan === undefined && !leftovers)
    return ['give --keep, --older-than or --leftovers (--dry-run shows what would go)'];
  return keep === 0 && olderThan === undefined ? ['--keep 0 would delete every model: give --older-than too, or use delete'] : [];
}
