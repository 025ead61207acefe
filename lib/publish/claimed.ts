import { kindOf } from '../errors.ts';
import type { Log } from '../log.ts';
import type { Manifest } from '../manifest.ts';
import { allEnded } from '../transfer/pool.ts';
import { Claim } from './claim.ts';
import type { Named } from './content.ts';
import type { ControlKeys, Published } from './control.ts';
import { clearLeftovers } from './leftovers.ts';
import type { PublishOptions } from './options.ts';
import { Uploads } from './uploads.ts';

export interface PublishOutcome {
  /** What is published now: of another run when `unchanged`. */
  manifest: Manifest;
  /** The published manifest's bytes. */
  bytes: Buffer;
  uploadedBytes: number;
  copiedBytes: number;
  unchanged: boolean;
}

/** What is published where, and how. */
export interface Target {
  /** For people: where it will lie. */
  uri: string;
  keys: Pick<ControlKeys, 'claim' | 'probe'>;
  /** What all keys that are sent in parts begin with, but for the slash. */
  folder: string;
  /** The published manifest when it is ours already; throws `refused` when it is another's. */
  look: () => Promise<Published | undefined>;
  /** Throws when it can never lie there; only reads. Asked together with the first look. */
  check?: () => Promise<void>;
  /** Brings all and puts the manifest. Its signal ends with the claim too. */
  work: (signal: AbortSignal, claim: Claim, uploads: Uploads) => Promise<PublishOutcome>;
}

/** What is published already, with what killed runs left taken away; undefined when there is work to do. Throws `refused` when it is another's. */
export async function publishedBefore(
  options: Omit<ClaimedOptions, 'waitTimeout'>,
  { uri, keys, folder, look, check }: Omit<Target, 'work'>,
): Promise<PublishOutcome | undefined> {
  const [, done] = await allEnded([check?.(), look()]);
  if (done === undefined) return undefined;
  await clearLeftovers({ ...options, prefix: folder }, keys);
  return unchanged(done, options.log, uri);
}

export type ClaimedOptions = Pick<PublishOptions, 'store' | 'log' | 'signal' | 'runId' | 'waitTimeout' | 'claimTiming'> & {
  content: Named;
};

/** Does the work under a claim, unless it is done already or another run does it meanwhile. A failure leaves what a rerun can use, and no more. */
export async function publishClaimed(options: ClaimedOptions, target: Target): Promise<PublishOutcome> {
  const before = await publishedBefore(options, target);
  if (before) return before;
  const ended = await underClaim(options, target, async (signal, claim, uploads) => {
    const outcome = await target.work(signal, claim, uploads);
    await claim.drop();
    return outcome;
  });
  return 'published' in ended ? unchanged(ended.published, options.log, target.uri) : ended.result;
}

/**
 * Takes the claim and works under it; `work` ends the claim. Gives what was published meanwhile instead, with the claim dropped. Its signal ends with the
 * claim too.
 */
export async function underClaim<T>(
  options: ClaimedOptions,
  { keys, folder, look }: Pick<Target, 'keys' | 'folder' | 'look'>,
  work: (signal: AbortSignal, claim: Claim, uploads: Uploads) => Promise<T>,
): Promise<{ published: Published } | { result: T }> {
  const { store, log, content, runId, waitTimeout, claimTiming } = options;
  const { conditionalWrites } = await store.probe(keys.probe);
  if (!conditionalWrites)
    log.warn({ store: store.uri }, 'this store has no conditional writes: let only one run at a time publish a model');
  const claim = await Claim.take({
    store,
    key: keys.claim,
    runId,
    contentDigest: content.digest,
    waitTimeout,
    signal: options.signal,
    log,
    done: async () => (await look()) !== undefined,
    timing: claimTiming,
  });
  if (claim === undefined) return { published: (await look()) as Published };
  const signal = AbortSignal.any([options.signal, claim.signal]);
  const uploads = new Uploads(store, claim, log);
  try {
    // Another run may have published between the look and the claim.
    const published = await look();
    if (published) {
      await uploads.abandon(folder);
      await claim.drop();
      return { published };
    }
    return { result: await work(signal, claim, uploads) };
  } catch (error) {
    const reason = signal.aborted ? signal.reason : error;
    await giveUp(claim, uploads, folder, reason);
    throw reason;
  }
}

/** Ends a claim after a failure: what a rerun can use stays, else uploads below `folder` are aborted. */
export async function giveUp(claim: Claim, uploads: Uploads, folder: string, reason: unknown): Promise<void> {
  if (['transient', 'terminated', 'bug'].includes(kindOf(reason))) return await claim.release();
  await uploads.abandon(folder);
  await claim.drop();
}

function unchanged(published: Published, log: Log, uri: string): PublishOutcome {
  log.info({ uri }, 'already published, nothing to do');
  return { manifest: published.manifest, bytes: published.bytes, uploadedBytes: 0, copiedBytes: 0, unchanged: true };
}
