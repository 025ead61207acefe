import { StepError } from '../errors.ts';
import { manifestBytes } from '../manifest.ts';
import { Claim } from '../publish/claim.ts';
import { parseClaim } from '../publish/claim-record.ts';
import { type ControlKeys, controlKeys, type Published, readPublished } from '../publish/control.ts';
import type { Brought, Inventory } from '../publish/inventory.ts';
import { settledListing } from '../publish/listing.ts';
import { inventoryOf, look, refuseForeign, some } from '../publish/look.ts';
import type { PublishOptions } from '../publish/options.ts';
import type { PublishOutcome } from '../publish/publish.ts';
import { seal } from '../publish/seal.ts';
import { shardClaimKeys, withShardClaims } from '../publish/shard-claims.ts';
import { Uploads } from '../publish/uploads.ts';
import { isPlanRecord, shardNames, sourceKey } from './place.ts';
import { joined, planContent, type ReadPlan, runIdOf } from './record.ts';
import { readReport, reportedFiles, reportKey } from './report.ts';

export type FinishOptions = Pick<
  PublishOptions,
  'store' | 'log' | 'signal' | 'controlPrefix' | 'waitTimeout' | 'concurrency' | 'claimTiming'
> & { read: ReadPlan };

type Seen = Omit<PublishOptions, 'send' | 'progress' | 'runId' | 'versionsPrefix'>;

/**
 * Publishes what the shards brought, after everything was verified: reports, listing, sizes and etags. The policy is not asked again: plan has
 * refused by the licence and names of that very commit, and each shard has judged the bytes of its files as they passed. Throws `transient` naming the shards
 * that have not reported, `integrity` naming files that are gone or not those that were brought, `refused` on a conflict.
 */
export async function finishPlan(options: FinishOptions): Promise<PublishOutcome> {
  const { store, log, controlPrefix, read } = options;
  const { prefix, replace, rayHash } = read.plan;
  const keys = controlKeys(controlPrefix, prefix);
  const content = planContent(read.plan, read.sha256);
  const seen: Seen = { ...options, content, prefix, replace, rayHash, source: (await store.get(sourceKey(read.key)))?.bytes };
  const done = await look(seen, keys);
  if (done) return await endOf(options, done);
  await store.probe(keys.probe);
  const claim = await takeAll(options, keys, content.digest, async () => (await look(seen, keys)) !== undefined);
  if (claim === undefined) return await endOf(options, (await look(seen, keys)) as Published);
  try {
    const already = await look(seen, keys);
    if (already) return await endOf(options, already);
    const outcome = await publishReported({ ...seen, signal: AbortSignal.any([options.signal, claim.signal]) }, read, keys, claim);
    await clearRecords(options);
    await claim.drop();
    log.info({ uri: `${store.uri}/${prefix}/`, uploadedBytes: outcome.uploadedBytes, copiedBytes: outcome.copiedBytes }, 'published');
    return outcome;
  } catch (error) {
    throw claim.signal.aborted ? claim.signal.reason : error;
  } finally {
    await claim.leave();
  }
}

/** Gives a plan up: aborts what its shards left unfinished and drops its claim. The plan itself stays, so that its run may go on later. */
export async function abandonPlan(options: FinishOptions): Promise<void> {
  const { store, log, controlPrefix, read } = options;
  const keys = controlKeys(controlPrefix, read.plan.prefix);
  if ((await heldBy(options)) === undefined) {
    log.info({ plan: read.key }, 'nothing to abandon: the plan holds no claim');
    return;
  }
  await store.probe(keys.probe);
  const claim = await takeAll({ ...options, waitTimeout: 0 }, keys, read.sha256, async () => false);
  if (claim === undefined) return;
  await new Uploads(store, claim, log).abandon(read.plan.prefix);
  await store.delete(await shardClaimKeys(store, read.key));
  await claim.drop();
  log.info({ plan: read.key }, 'plan abandoned: its uploads are aborted, its claim is dropped');
}

/** Keys of the named uploads that abandonPlan would abort; undefined when the plan holds no claim. Writes nothing. */
export async function findAbandonable(options: Pick<FinishOptions, 'store' | 'controlPrefix' | 'read'>): Promise<string[] | undefined> {
  const claim = await heldBy(options);
  return claim && Object.keys((await withShardClaims(options.store, claim)).uploads).sort();
}

/** The claim that the plan holds. */
async function heldBy({ store, controlPrefix, read }: Pick<FinishOptions, 'store' | 'controlPrefix' | 'read'>) {
  const found = await store.get(controlKeys(controlPrefix, read.plan.prefix).claim);
  const claim = found && parseClaim(found.bytes);
  return claim?.holder === read.sha256 ? claim : undefined;
}

/** The plan's claim, with all that its shards' claims name. */
async function takeAll(options: FinishOptions, keys: ControlKeys, contentDigest: string, done: () => Promise<boolean>) {
  const { store, signal, log, waitTimeout, read, claimTiming: timing } = options;
  const common = { store, signal, log, waitTimeout, timing, done, contentDigest };
  return await Claim.take({ ...common, key: keys.claim, runId: runIdOf(read), plan: joined(read), withShards: true });
}

async function publishReported(seen: Seen, read: ReadPlan, keys: ControlKeys, claim: Claim): Promise<PublishOutcome> {
  const { store, log, content, prefix } = seen;
  const { brought, uploadedBytes, copiedBytes } = await readReports(seen, read);
  const old = await readPublished(store, keys.manifest);
  const names = shardNames(read.plan.shards.length);
  await settledListing(store, prefix, content.files);
  const known = content.files.map((file) => file.path);
  const inventory = await inventoryOf(
    seen,
    keys,
    old,
    known,
    names.map((name) => reportKey(read.key, name)),
  );
  checkBrought(seen, inventory, brought);
  refuseForeign(inventory, seen);
  await new Uploads(store, claim, log).abandon(prefix);
  const files = content.files.map(({ path, size }) => ({ path, size, sha256: (brought.get(path) as Brought).sha256 }));
  // The manifest of other content goes at the last moment, unless a shard had to overwrite what it names.
  if (old && !old.bytes.equals(manifestBytes(content.manifestOf(files)))) await store.delete([keys.manifest], { etag: old.info.etag });
  const sealed = await seal(seen, keys, claim, inventory, brought);
  return { ...sealed, uploadedBytes, copiedBytes, unchanged: false };
}

async function readReports({ store }: Seen, read: ReadPlan) {
  const names = shardNames(read.plan.shards.length);
  const reports = await Promise.all(names.map((name) => readReport(store, read, name)));
  const missing = names.filter((_, index) => reports[index] === undefined);
  if (missing.length > 0) {
    throw new StepError('transient', `failed to finish ${store.uri}/${read.key}: no report yet of shard ${some(missing)}`, {
      hint: 'run sync --shard for each of them, then finish again',
    });
  }
  const brought = new Map<string, Brought>();
  let [uploadedBytes, copiedBytes] = [0, 0];
  for (const [index, report] of reports.entries()) {
    if (report === undefined) continue;
    for (const [path, file] of reportedFiles(store, report, read.plan.shards[index] ?? [], names[index] ?? '')) brought.set(path, file);
    uploadedBytes += report.uploadedBytes;
    copiedBytes += report.copiedBytes;
  }
  return { brought, uploadedBytes, copiedBytes };
}

/**
 * Throws `integrity` naming files that are not as the shards reported them: the very objects, or of the same bytes by their own marks, as a try leaves
 * them that was held for dead and puts its file behind its retry.
 */
function checkBrought({ store, content, prefix }: Seen, { right }: Inventory, brought: ReadonlyMap<string, Brought>): void {
  const faults = content.files
    .map((file) => file.path)
    .filter((path) => right.get(path) === undefined || right.get(path)?.sha256 !== brought.get(path)?.sha256);
  if (faults.length === 0) return;
  throw new StepError('integrity', `failed to verify ${store.uri}/${prefix}/: gone or changed since a shard brought it: ${some(faults)}`, {
    hint: 'somebody else writes there; run the shards again, then finish',
  });
}

/** The model is published: what an earlier finish had no time to clean away goes, where it is this plan's. */
async function endOf(options: FinishOptions, published: Published): Promise<PublishOutcome> {
  const { store, log, read, controlPrefix } = options;
  const { claim: key } = controlKeys(controlPrefix, read.plan.prefix);
  const found = await store.get(key);
  const holder = found && parseClaim(found.bytes)?.holder;
  if (found === undefined || holder === read.sha256) {
    await abandonPlan(options);
    await clearRecords(options);
  }
  log.info({ uri: `${store.uri}/${read.plan.prefix}/` }, 'already published, nothing to do');
  return { manifest: published.manifest, bytes: published.bytes, uploadedBytes: 0, copiedBytes: 0, unchanged: true };
}

/** The records of this plan, and of plans for the same prefix that came to nothing: under the claim no other one lives. */
async function clearRecords({ store, controlPrefix, read }: FinishOptions): Promise<void> {
  const { prefix } = read.plan;
  const keys: string[] = [];
  for await (const { key } of store.list(`${controlPrefix}/plans/${prefix}/`)) {
    if (isPlanRecord(controlPrefix, prefix, key) && key !== read.key) keys.push(key);
  }
  // The plan last: as long as it is there, a rerun knows what else to clean away.
  if (keys.length > 0) await store.delete(keys);
  await store.delete([read.key]);
}
