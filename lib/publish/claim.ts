import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { isTransient, kindOf, messageOf, StepError } from '../errors.ts';
import { ownHolder } from '../holder.ts';
import { type ObjectInfo, PreconditionFailed, type Store } from '../store.ts';
import { type ClaimOptions, type ClaimTiming, defaultTiming, type JoinedPlan } from './claim-options.ts';
import { type ClaimedUpload, type ClaimRecord, claimBytes, parseClaim } from './claim-record.ts';
import { livePeer, type Seen, see, wayOut } from './claim-seen.ts';
import { withShardClaims } from './shard-claims.ts';

/** Every conflict means that another run got on: so many mean a store whose conditions do not work. */
const maxConflicts = 50;

/**
 * The right to write below one prefix: a record in the store, made only where none is, renewed while it is held, and taken over
 * from a run that stopped renewing it. Its holder aborts `signal` as soon as another one has it.
 */
export class Claim {
  readonly #options: ClaimOptions;
  readonly #timing: ClaimTiming;
  readonly #lost = new AbortController();
  /** What an earlier holder left: its uploads may be gone on with or aborted. */
  readonly inherited: { uploads: ReadonlyMap<string, ClaimedUpload>; keys: ReadonlySet<string>; since: Date } | undefined;
  #record: ClaimRecord;
  #info: ObjectInfo;
  #writing: Promise<void> = Promise.resolve();
  #dirty = false;
  #over = false;
  #timer: NodeJS.Timeout | undefined;

  private constructor(options: ClaimOptions, record: ClaimRecord, info: ObjectInfo, before: ClaimRecord | undefined) {
    this.#options = options;
    this.#timing = options.timing ?? defaultTiming;
    this.#record = record;
    this.#info = info;
    this.inherited = before && {
      uploads: new Map(Object.entries(before.uploads)),
      keys: new Set(before.keys),
      since: new Date(before.since),
    };
    this.#timer = setInterval(() => void this.#save().catch(() => {}), this.#timing.renewMs).unref();
  }

  /** Takes the claim, waiting for a live peer; undefined when `done` came true. Throws `transient` when the peer outlives the wait. */
  static async take(options: ClaimOptions): Promise<Claim | undefined> {
    const { key, waitTimeout, signal, log } = options;
    const timing = options.timing ?? defaultTiming;
    const holder = options.plan?.sha256 ?? randomUUID();
    let waited = 0;
    let conflicts = 0;
    for (;;) {
      signal.throwIfAborted();
      const seen = await see(options);
      const peer = livePeer(seen, options.runId, timing);
      if (peer === undefined) {
        const claim = await Claim.#takeOver(options, holder, seen);
        if (claim) return claim;
        conflicts += 1;
        if (conflicts > maxConflicts) throw new StepError('transient', `failed to claim ${key}: every try met another writer`);
        await sleep(jitter(timing, conflicts), undefined, { signal }).catch(() => signal.throwIfAborted());
        continue;
      }
      if (await options.done()) return undefined;
      if (waited >= waitTimeout) {
        throw new StepError('transient', `failed to publish: run ${peer.runId} is publishing under ${key}`, { hint: wayOut(peer) });
      }
      if (waited === 0) log.info({ key, run: peer.runId, plan: peer.plan?.key }, 'waiting for another run that publishes here');
      await sleep(timing.pollMs, undefined, { signal }).catch(() => signal.throwIfAborted());
      waited += timing.pollMs;
    }
  }

  /** Makes a claim ours that no peer holds; undefined when another writer came first. */
  static async #takeOver(options: ClaimOptions, holder: string, seen: Seen): Promise<Claim | undefined> {
    const { store, key, runId, contentDigest, log, withShards, timing = defaultTiming } = options;
    const { info, written, ageMs, joins } = seen;
    const before = written && (joins && !withShards ? written : await withShardClaims(store, written));
    // A process of the same plan has just renewed it.
    if (info && written && before && joins && ageMs < timing.renewMs) return new Claim(options, written, info, before);
    const since = before && before.contentDigest === contentDigest ? before.since : store.now().toISOString();
    const record = recordOf(options, holder, since, joins ? written : before);
    try {
      const put = await store.put(key, claimBytes(record), { condition: info ? { etag: info.etag } : { absent: true } });
      if (before && !joins && before.runId !== runId) log.info({ key, from: before.runId, ageMs }, 'claim taken over');
      return new Claim(options, record, put, before);
    } catch (error) {
      if (error instanceof PreconditionFailed) return undefined;
      throw error;
    }
  }

  /** Aborted when another run has taken the claim: everything must stop at once. */
  get signal(): AbortSignal {
    return this.#lost.signal;
  }

  /** Names the keys that will be sent in parts, before the first upload is begun. */
  async announce(keys: readonly string[]): Promise<void> {
    if (keys.every((key) => this.#record.keys.includes(key))) return;
    this.#record.keys = [...new Set([...this.#record.keys, ...keys])].sort();
    await this.#save();
  }

  /** Names an upload, before its first part is sent. */
  async add(path: string, upload: ClaimedUpload): Promise<void> {
    this.#record.uploads[path] = upload;
    await this.#save();
  }

  /** An upload is completed or aborted. Written with the next save: a name too many does no harm. */
  forget(path: string): void {
    delete this.#record.uploads[path];
  }

  /** Makes sure, right before the manifest is put, that the claim is still ours. */
  async confirm(): Promise<void> {
    await this.#save();
    this.#lost.signal.throwIfAborted();
  }

  /** Leaves the claim to the processes of a plan, this one not among them. Throws when that could not be written. */
  async handOver({ sha256, ...plan }: JoinedPlan): Promise<void> {
    await this.#stop();
    const { key, store } = this.#options;
    const { holder, process: _, ...rest } = this.#record;
    for (let conflicts = 1; ; conflicts += 1) {
      this.#lost.signal.throwIfAborted();
      try {
        await store.put(key, claimBytes({ ...rest, holder: sha256, plan }), { condition: { etag: this.#info.etag } });
        return;
      } catch (error) {
        if (!(error instanceof PreconditionFailed) || conflicts > maxConflicts) throw error;
        const found = await store.get(key);
        if (found && parseClaim(found.bytes)?.holder === sha256) return;
        await this.#settle(store);
      }
    }
  }

  /** This process is done with a plan's claim; the plan holds it still. */
  async leave(): Promise<void> {
    await this.#stop();
  }

  /** The work is done, or will never be: the record goes. */
  async drop(): Promise<void> {
    await this.#stop();
    if (this.#lost.signal.aborted) return;
    await this.#delete().catch((error) => this.#complain(error));
  }

  /** The work stops in good order but is not done: whoever comes next goes on at once. */
  async release(): Promise<void> {
    await this.#stop();
    if (this.#lost.signal.aborted) return;
    this.#record.released = true;
    await this.#write(this.#options.store.detached()).catch((error) => this.#complain(error));
  }

  async #stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#over = true;
    await this.#writing.catch(() => {});
  }

  /** Changes that come while one write is under way go out together with the next. */
  async #save(): Promise<void> {
    if (this.#dirty) return await this.#writing;
    this.#dirty = true;
    this.#writing = this.#writing
      .catch(() => {})
      .then(async () => {
        this.#dirty = false;
        if (!this.#over) await this.#write();
      });
    await this.#writing;
  }

  async #write(store = this.#options.store): Promise<void> {
    let tried = false;
    await this.#conditionally(store, async (etag) => {
      // Another process of the plan has just written the same.
      if (tried && this.#options.plan) return;
      tried = true;
      this.#info = await store.put(this.#options.key, claimBytes(this.#record), { condition: { etag } });
    });
  }

  async #delete(): Promise<void> {
    const store = this.#options.store.detached();
    await this.#conditionally(store, (etag) => store.delete([this.#options.key], { etag }));
  }

  /** A put whose answer was lost has changed the etag too: as long as the record is ours, the change is made on what is there now. */
  async #conditionally(store: Store, change: (etag: string) => Promise<void>): Promise<void> {
    for (let conflicts = 1; ; conflicts += 1) {
      this.#lost.signal.throwIfAborted();
      try {
        return await change(this.#info.etag);
      } catch (error) {
        // A record that is gone is no failed condition to S3, but a 404.
        const other = error instanceof PreconditionFailed || kindOf(error) === 'not-found';
        if (other && conflicts <= maxConflicts) await this.#settle(store);
        else if (isTransient(error)) return this.#complain(error);
        else throw error;
      }
    }
  }

  /** Looks who holds the claim: throws, and ends the work, when it is another run. */
  async #settle(store: Store): Promise<void> {
    const { key } = this.#options;
    const found = await store.get(key);
    if (found && parseClaim(found.bytes)?.holder === this.#record.holder) {
      this.#info = found.info;
      return;
    }
    const reason = new StepError('transient', `failed to publish: another run took over ${key}`, {
      hint: 'run it again; it goes on from there',
    });
    this.#lost.abort(reason);
    throw reason;
  }

  #complain(error: unknown): void {
    this.#options.log.warn({ key: this.#options.key, error: messageOf(error) }, 'claim not written');
  }
}

/** What a run writes that takes the claim; keys and uploads are those of the earlier holder. */
function recordOf(
  { runId, contentDigest, plan }: ClaimOptions,
  holder: string,
  since: string,
  earlier: ClaimRecord | undefined,
): ClaimRecord {
  const { keys = [], uploads = {} } = earlier ?? {};
  // Processes of a plan come and go: that one is gone tells nothing.
  const who = plan ? { plan: { key: plan.key, holdMs: plan.holdMs } } : { process: ownHolder() };
  return { schemaVersion: 1, runId, holder, ...who, contentDigest, since, released: false, keys, uploads };
}

/** ms: longer the more writers there are. */
function jitter({ pollMs }: ClaimTiming, conflicts: number): number {
  return Math.random() * pollMs * 0.05 * Math.min(10, 1 + conflicts);
}
