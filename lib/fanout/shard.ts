import { StepError } from '../errors.ts';
import type { Expected } from '../integrity.ts';
import { bring } from '../publish/bring.ts';
import { Claim } from '../publish/claim.ts';
import { giveUp } from '../publish/claimed.ts';
import type { Content } from '../publish/content.ts';
import { type ControlKeys, controlKeys, readPublished } from '../publish/control.ts';
import { type Brought, takeInventory } from '../publish/inventory.ts';
import { look } from '../publish/look.ts';
import type { PublishOptions } from '../publish/options.ts';
import { storedFile } from '../publish/seal.ts';
import { shardClaimKey } from '../publish/shard-claims.ts';
import { Uploads } from '../publish/uploads.ts';
import { PreconditionFailed } from '../store.ts';
import { parseShard } from './place.ts';
import { joined, planContent, type ReadPlan, runIdOf } from './record.ts';
import { reportBytes, reportKey } from './report.ts';

export type ShardOptions = Pick<
  PublishOptions,
  | 'store'
  | 'log'
  | 'signal'
  | 'progress'
  | 'controlPrefix'
  | 'copyFrom'
  | 'waitTimeout'
  | 'concurrency'
  | 'claimTiming'
  | 'inspect'
  | 'send'
> & { read: ReadPlan; shard: string; content: Content };

export interface ShardOutcome {
  files: readonly Expected[];
  uploadedBytes: number;
  copiedBytes: number;
  /** The model is published already: nothing was done. */
  unchanged: boolean;
}

/** Whether a plan has that shard. */
export function hasShard({ plan }: ReadPlan, shard: string): boolean {
  return parseShard(shard).of === plan.shards.length;
}

/** Whether what was planned is published and whole, whoever did it. Throws `refused` when other content is. */
export async function isPublished(
  options: Pick<ShardOptions, 'store' | 'log' | 'controlPrefix'>,
  { plan, sha256 }: ReadPlan,
): Promise<boolean> {
  const { prefix, replace } = plan;
  const published = await look(
    { ...options, content: planContent(plan, sha256), prefix, replace },
    controlKeys(options.controlPrefix, prefix),
  );
  return published !== undefined;
}

/** The files of that shard. Throws `usage` when the plan has no such shard. */
export function shardFiles({ plan, key }: ReadPlan, shard: string): Expected[] {
  const { index, of } = parseShard(shard);
  const files = of === plan.shards.length ? plan.shards[index] : undefined;
  if (files === undefined) throw new StepError('usage', `failed to use --shard ${shard}: plan ${key} has ${plan.shards.length} shards`);
  return files;
}

/**
 * Brings one shard's files under the plan's claim and reports them; publishes nothing. A later try of the same shard ends an earlier one
 * and goes on with its uploads. Throws as publish does.
 */
export async function bringShard(options: ShardOptions): Promise<ShardOutcome> {
  const { store, log, read, shard, content, controlPrefix, waitTimeout } = options;
  const { prefix, replace } = read.plan;
  const files = shardFiles(read, shard);
  const keys = controlKeys(controlPrefix, prefix);
  const seen = { store, log, content, prefix, replace };
  const nothing = { files, uploadedBytes: 0, copiedBytes: 0, unchanged: true };
  if (await look(seen, keys)) return nothing;
  await store.probe(keys.probe);
  const claim = await Claim.take({
    store,
    key: keys.claim,
    runId: runIdOf(read),
    contentDigest: content.digest,
    waitTimeout,
    signal: options.signal,
    log,
    done: async () => (await look(seen, keys)) !== undefined,
    timing: options.claimTiming,
    plan: joined(read),
  });
  if (claim === undefined) return nothing;
  try {
    if (await look(seen, keys)) return nothing;
    return await bringClaimed(options, files, keys, claim);
  } finally {
    await claim.leave();
  }
}

/** Everything that ends this process alone: another one goes on with its own shard. */
async function bringClaimed(options: ShardOptions, files: readonly Expected[], keys: ControlKeys, plans: Claim): Promise<ShardOutcome> {
  const { store, log, read, shard } = options;
  const { prefix } = read.plan;
  const own = await Claim.take({
    store,
    key: shardClaimKey(read.key, shard),
    runId: read.sha256,
    contentDigest: read.sha256,
    waitTimeout: 0,
    signal: AbortSignal.any([options.signal, plans.signal]),
    log,
    done: async () => false,
    timing: options.claimTiming,
  });
  if (own === undefined) throw new StepError('bug', `failed to claim shard ${shard}`);
  const signal = AbortSignal.any([options.signal, plans.signal, own.signal]);
  const uploads = new Uploads(store, own, log);
  try {
    const outcome = await bringFiles({ ...options, signal }, files, keys, uploads);
    await plans.confirm();
    await own.confirm();
    const { uploadedBytes, copiedBytes, brought } = outcome;
    const report = {
      plan: read.sha256,
      uploadedBytes,
      copiedBytes,
      files: files.map((file) => storedFile(file, brought.get(file.path) as Brought)),
    };
    await store.put(reportKey(read.key, shard), reportBytes(report));
    await own.drop();
    log.info({ shard, uri: `${store.uri}/${prefix}/`, files: files.length, uploadedBytes, copiedBytes }, 'shard done');
    return { files, uploadedBytes, copiedBytes, unchanged: false };
  } catch (error) {
    // A later try of this shard may have ended our uploads, which looks like a failure of the store: its uploads must not be touched.
    if (!signal.aborted) await own.confirm().catch(() => {});
    const reason = signal.aborted ? signal.reason : error;
    await giveUp(own, uploads, prefix, reason);
    throw reason;
  }
}

async function bringFiles(options: ShardOptions, files: readonly Expected[], keys: ControlKeys, uploads: Uploads) {
  const { store, controlPrefix, concurrency, read, shard } = options;
  const { prefix, versionsPrefix } = read.plan;
  const inventory = await takeInventory({
    store,
    prefix,
    files,
    known: new Set(),
    // An earlier try of this shard may have got as far as its report.
    storedKeys: [keys.stored, reportKey(read.key, shard)],
    rayHash: false,
    concurrency,
    filesOnly: true,
  });
  if (inventory.right.size < files.length) {
    await options.inspect?.(options.signal);
    await dropOld(options, keys);
  }
  return await bring({ ...options, prefix, controlPrefix, versionsPrefix }, files, inventory.right, uploads);
}

/** Deletes the manifest that the plan replaces: until the new one stands, the model does not exist for anyone. A sibling may do the same. */
async function dropOld(options: ShardOptions, keys: ControlKeys): Promise<void> {
  const { store, log, content, read } = options;
  const { prefix, replace } = read.plan;
  const old = await readPublished(store, keys.manifest);
  if (old === undefined) return;
  if (await look({ store, log, content, prefix, replace }, keys)) {
    throw new StepError('transient', `failed to bring shard ${options.shard}: the model was published at this moment`);
  }
  try {
    await store.delete([keys.manifest], { etag: old.info.etag });
  } catch (error) {
    if (!(error instanceof PreconditionFailed)) throw error;
    await dropOld(options, keys);
  }
}
