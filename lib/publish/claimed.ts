import { kindOf } from '../errors.ts';
import type { Log } from '../log.ts';
import type { Manifest } from '../manifest.ts';
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
  /** Brings all and puts the manifest. Its signal ends with the claim too. */
  work: (signal: AbortSignal, claim: Claim, uploads: Uploads) => Promise<PublishOutcome>;
}

/** What is published already, with what killed runs left taken away; undefined when there is work to do. Throws `refused` when it is another's. */
export async function publishedBefore(
  options: Omit<ClaimedOptions, 'waitTimeout'>,
  { uri, keys, folder, look }: Omit<Target, 'work'>,
): Promise<PublishOutcome | undefined> {
  const done = await look();
  if (done === undefined) return undefined;
  await clearLeftovers({ ...options, prefix: folder }, keys);
  return unchanged(done, options.log, uri);
}

export type ClaimedOptions = Pick<PublishOptions, 'store' | 'log' | 'signal' | 'runId' | 'waitTimeout' | 'claimTiming'> & {
  content: Named;
};

/** Does the work under a claim, unless it is done already or another run does it meanwhile. A failure leaves what a rerun can use, and no more. */
export async function publishClaimed(options: ClaimedOptions, target: Target): Promise<PublishOutcome> {
  const { store, log, content } = options;
  const { uri, keys, look } = target;
  const before = await publishedBefore(options, target);
  if (before) return before;
  const { conditionalWrites } = await store.probe(keys.probe);
  if (!conditionalWrites)
    log.warn({ store: store.uri }, 'this store has no conditional writes: let only one run at a time publish a model');
  const claim = await Claim.take({
    store,
    key: keys.claim,
    runId: options.runId,
    contentDigest: content.digest,
    waitTimeout: options.waitTimeout,
    signal: options.signal,
    log,
    done: async () => (await look()) !== undefined,
    ...(options.claimTiming ? { timing: options.claimTiming } : {}),
  });
  if (claim === undefined) return unchanged((await look()) as Published, log, uri);
  return await workClaimed(options, target, claim);
}

async function workClaimed(options: ClaimedOptions, { uri, folder, look, work }: Target, claim: Claim): Promise<PublishOutcome> {
  const { store, log } = options;
  const signal = AbortSignal.any([options.signal, claim.signal]);
  const uploads = new Uploads(store, claim, log);
  try {
    // Another run may have published between the look and the claim.
    const done = await look();
    if (done) {
      await uploads.abandon(folder);
      await claim.drop();
      return unchanged(done, log, uri);
    }
    const outcome = await work(signal, claim, uploads);
    await claim.drop();
    return outcome;
  } catch (error) {
    const reason = signal.aborted ? signal.reason : error;
    const resumable = ['transient', 'terminated', 'bug'].includes(kindOf(reason));
    if (resumable) await claim.release();
    else {
      await uploads.abandon(folder);
      await claim.drop();
    }
    throw reason;
  }
}

function unchanged(published: Published, log: Log, uri: string): PublishOutcome {
  log.info({ uri }, 'already published, nothing to do');
  return { manifest: published.manifest, bytes: published.bytes, uploadedBytes: 0, copiedBytes: 0, unchanged: true };
}
