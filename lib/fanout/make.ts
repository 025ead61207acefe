import { checkKeys } from '../paths.ts';
import type { Claim } from '../publish/claim.ts';
import { claimBytes, parseClaim } from '../publish/claim-record.ts';
import { underClaim } from '../publish/claimed.ts';
import { controlKeys, type Published, readPublished } from '../publish/control.ts';
import { checkPlace, inventoryOf, look, refuseForeign } from '../publish/look.ts';
import type { PublishOptions } from '../publish/options.ts';
import { shardClaimKey } from '../publish/shard-claims.ts';
import type { Uploads } from '../publish/uploads.ts';
import { shardNames, sourceKey } from './place.ts';
import { joined, planBytes, type ReadPlan, runIdOf } from './record.ts';

export type MakePlanOptions = Omit<PublishOptions, 'send' | 'progress' | 'runId' | 'versionsPrefix' | 'source'> & { source: Uint8Array };

/**
 * Makes a plan: finds conflicts before any byte moves, takes the prefix's claim and leaves it to the plan's processes. What an earlier run
 * left unfinished is handed to the shards that go on with it. The published model when there is nothing to do: then nothing was written.
 * Throws as publish does. A plan that is made again is the same one, and goes on as it stands.
 */
export async function makePlan(options: MakePlanOptions, made: ReadPlan): Promise<Published | undefined> {
  const { store, log, prefix, controlPrefix } = options;
  const keys = controlKeys(controlPrefix, prefix);
  await checkPlace(options, keys);
  checkKeys(shardNames(made.plan.shards.length).map((shard) => shardClaimKey(made.key, shard)));
  const done = await look(options, keys);
  if (done) return done;
  if (await stands(options, keys.claim, made)) {
    log.info({ plan: made.key }, 'this plan stands already');
    return undefined;
  }
  const target = { keys, folder: prefix, look: () => look(options, keys) };
  const ended = await underClaim({ ...options, runId: runIdOf(made) }, target, async (signal, claim, uploads) => {
    const inventory = await inventoryOf(options, keys, readPublished(store, keys.manifest));
    refuseForeign(inventory, options);
    await options.inspect?.(signal);
    const missing = options.content.files.filter((file) => !inventory.right.has(file.path));
    await uploads.adopt(prefix, missing);
    await handOn(options, made, claim, uploads);
    signal.throwIfAborted();
    await store.put(sourceKey(made.key), options.source);
    await store.put(made.key, planBytes(made.plan));
    await claim.handOver(joined(made));
  });
  return 'published' in ended ? ended.published : undefined;
}

/** True when the claim is this plan's and its record is there: an earlier try got that far, or a person asked twice. */
async function stands({ store }: MakePlanOptions, claimKey: string, { plan, key, sha256 }: ReadPlan): Promise<boolean> {
  const claim = await store.get(claimKey);
  if (!claim || parseClaim(claim.bytes)?.holder !== sha256) return false;
  return (await store.get(key))?.bytes.equals(planBytes(plan)) ?? false;
}

/** Uploads that an earlier run left go to the shards whose files they are, in a claim that was given back: a shard begins by taking it. */
async function handOn({ store, prefix, content }: MakePlanOptions, made: ReadPlan, claim: Claim, uploads: Uploads): Promise<void> {
  const { inherited } = claim;
  if (inherited === undefined || uploads.adopted.size === 0) return;
  const names = shardNames(made.plan.shards.length);
  for (const [index, files] of made.plan.shards.entries()) {
    const own = files.map((file) => `${prefix}/${file.path}`).filter((key) => uploads.adopted.has(key));
    if (own.length === 0) continue;
    const record = claimBytes({
      schemaVersion: 1,
      runId: made.sha256,
      holder: '',
      contentDigest: content.digest,
      since: inherited.since.toISOString(),
      released: true,
      keys: own,
      uploads: Object.fromEntries([...uploads.adopted].filter(([key]) => own.includes(key))),
    });
    await store.put(shardClaimKey(made.key, names[index] ?? ''), record);
  }
  for (const key of uploads.adopted.keys()) claim.forget(key);
}
