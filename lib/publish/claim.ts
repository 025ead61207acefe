import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { isTransient, messageOf, StepError } from '../errors.ts';
import { isGone, ownHolder } from '../lock.ts';
import type { Log } from '../log.ts';
import { type ObjectInfo, PreconditionFailed, type Store } from '../store.ts';
import { type ClaimedUpload, type ClaimRecord, claimBytes, parseClaim } from './claim-record.ts';

export interface ClaimOptions {
  store: Store;
  key: string;
  runId: string;
  contentDigest: string;
  /** ms to wait for another live run. */
  waitTimeout: number;
  signal: AbortSignal;
  log: Log;
  /** Looked at while waiting: true means that the other run has done our work. */
  done: () => Promise<boolean>;
  timing?: ClaimTiming;
  shared?: SharedClaim | undefined;
}

/** A claim that a plan holds for many processes at once: whoever names the same plan joins. */
export interface SharedClaim {
  /** sha256 of the plan. */
  plan: string;
  /** Which shard this process works on: a later try of it ends this one. */
  shard?: string | undefined;
  /** The only keys whose uploads this process may go on with or abort; undefined for all. */
  keys?: ReadonlySet<string> | undefined;
}

export interface ClaimTiming {
  renewMs: number;
  staleMs: number;
  pollMs: number;
}

const defaultTiming: ClaimTiming = { renewMs: 60_000, staleMs: 600_000, pollMs: 2_000 };

/** Many shards may write at the same moment; every conflict means that another one got on. */
const maxConflicts = 200;

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
  /** True when the claim was this plan's before. */
  readonly joined: boolean;
  /** Our name in the record: as its holder, or as that of our shard. */
  readonly #self: string;
  /** What this process added and took away (undefined), put again on what others wrote meanwhile. */
  readonly #own = new Map<string, ClaimedUpload | undefined>();
  #record: ClaimRecord;
  #info: ObjectInfo;
  #writing: Promise<void> = Promise.resolve();
  #dirty = false;
  #over = false;
  #timer: NodeJS.Timeout | undefined;

  private constructor(options: ClaimOptions, self: string, record: ClaimRecord, info: ObjectInfo, before: ClaimRecord | undefined) {
    this.#options = options;
    this.#timing = options.timing ?? defaultTiming;
    this.#record = record;
    this.#info = info;
    this.#self = self;
    this.joined = before !== undefined && before.holder === options.shared?.plan;
    const mine = (key: string) => options.shared?.keys?.has(key) ?? true;
    this.inherited = before && {
      uploads: new Map(Object.entries(before.uploads).filter(([key]) => mine(key))),
      keys: new Set(before.keys.filter(mine)),
      since: new Date(before.since),
    };
    this.#timer = setInterval(() => void this.#save().catch(() => {}), this.#timing.renewMs).unref();
  }

  /** Takes the claim, waiting for a live peer; undefined when `done` came true. Throws `transient` when the peer outlives the wait. */
  static async take(options: ClaimOptions): Promise<Claim | undefined> {
    const { store, key, runId, contentDigest, waitTimeout, signal, log, shared } = options;
    const timing = options.timing ?? defaultTiming;
    const self = randomUUID();
    const { shard } = shared ?? {};
    let waited = 0;
    let conflicts = 0;
    for (;;) {
      signal.throwIfAborted();
      const found = await store.get(key);
      const before = found && parseClaim(found.bytes);
      const since = before && before.contentDigest === contentDigest ? before.since : store.now().toISOString();
      const joins = before !== undefined && before.holder === shared?.plan;
      const ageMs = found ? store.now().getTime() - found.info.lastModified.getTime() : 0;
      if (found === undefined || before === undefined || ageMs >= timing.staleMs || joins || isFree(before, runId)) {
        const record: ClaimRecord = {
          schemaVersion: 1,
          runId,
          holder: shared?.plan ?? self,
          // Processes of a plan come and go: that one is gone tells nothing.
          ...(shared ? {} : { process: ownHolder() }),
          contentDigest,
          since,
          released: false,
          keys: before?.keys ?? [],
          uploads: before?.uploads ?? {},
          ...(shared ? { shards: { ...(joins ? before.shards : {}), ...(shard === undefined ? {} : { [shard]: self }) } } : {}),
        };
        try {
          const condition = found ? { etag: found.info.etag } : ({ absent: true } as const);
          const info = await store.put(key, claimBytes(record), { condition });
          if (before && before.runId !== runId) log.info({ key, from: before.runId, ageMs }, 'claim taken over');
          return new Claim(options, self, record, info, before);
        } catch (error) {
          if (!(error instanceof PreconditionFailed)) throw error;
          conflicts += 1;
          if (conflicts > maxConflicts) throw new StepError('transient', `failed to claim ${key}: every try met another writer`);
          await sleep(jitter(timing, conflicts), undefined, { signal }).catch(() => signal.throwIfAborted());
          continue;
        }
      }
      if (await options.done()) return undefined;
      if (waited >= waitTimeout) {
        throw new StepError('transient', `failed to publish: run ${before.runId} is publishing under ${key}`, {
          hint: 'run it again when that run is over, or give a longer --wait-timeout',
        });
      }
      if (waited === 0) log.info({ key, run: before.runId }, 'waiting for another run that publishes here');
      await sleep(timing.pollMs, undefined, { signal }).catch(() => signal.throwIfAborted());
      waited += timing.pollMs;
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
    this.#own.set(path, upload);
    await this.#save();
  }

  /** An upload is completed or aborted. Written with the next save: a name too many does no harm. */
  forget(path: string): void {
    delete this.#record.uploads[path];
    this.#own.set(path, undefined);
  }

  /** Makes sure, right before the manifest is put, that the claim is still ours. */
  async confirm(): Promise<void> {
    await this.#save();
    this.#lost.signal.throwIfAborted();
  }

  /** The work is done, or will never be: the record goes. */
  async drop(): Promise<void> {
    await this.#stop();
    if (this.#lost.signal.aborted) return;
    await this.#delete().catch((error) => this.#complain(error));
  }

  /** The work stops in good order but is not done: whoever comes next goes on at once; a plan's other processes go on anyway. */
  async release(): Promise<void> {
    await this.#stop();
    if (this.#lost.signal.aborted) return;
    this.#record.released = this.#options.shared === undefined;
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

  /** What others of the same plan wrote meanwhile is kept. */
  async #write(store = this.#options.store): Promise<void> {
    const { key, timing = defaultTiming } = this.#options;
    for (let conflicts = 1; ; conflicts += 1) {
      this.#lost.signal.throwIfAborted();
      try {
        this.#info = await store.put(key, claimBytes(this.#record), { condition: { etag: this.#info.etag } });
        return;
      } catch (error) {
        if (error instanceof PreconditionFailed) {
          if ((await this.#settle(store)) || conflicts > maxConflicts) return;
          await sleep(jitter(timing, conflicts));
        } else if (isTransient(error)) return this.#complain(error);
        else throw error;
      }
    }
  }

  async #delete(): Promise<void> {
    const store = this.#options.store.detached();
    for (let conflicts = 1; ; conflicts += 1) {
      try {
        return await store.delete([this.#options.key], { etag: this.#info.etag });
      } catch (error) {
        if (!(error instanceof PreconditionFailed) || conflicts > maxConflicts) throw error;
        if (await this.#settle(store)) throw error;
      }
    }
  }

  /**
   * A put that was answered twice (a retry after a lost answer) also fails its condition: look who holds it. False when others of the
   * same plan wrote, and ours is to be written on top of that.
   */
  async #settle(store: Store): Promise<boolean> {
    const { key, shared } = this.#options;
    const found = await store.get(key);
    const record = found && parseClaim(found.bytes);
    if (found && record?.holder === this.#record.holder && (shared?.shard === undefined || record.shards?.[shared.shard] === this.#self)) {
      this.#info = found.info;
      if (shared) this.#rebase(record);
      return shared === undefined;
    }
    const reason = new StepError('transient', `failed to publish: another run took over ${key}`, {
      hint: 'run it again; it goes on from there',
    });
    this.#lost.abort(reason);
    throw reason;
  }

  #rebase(theirs: ClaimRecord): void {
    const keys = [...new Set([...theirs.keys, ...this.#record.keys])].sort();
    const uploads = { ...theirs.uploads };
    for (const [path, upload] of this.#own) {
      if (upload) uploads[path] = upload;
      else delete uploads[path];
    }
    this.#record = { ...theirs, keys, uploads };
  }

  #complain(error: unknown): void {
    this.#options.log.warn({ key: this.#options.key, error: messageOf(error) }, 'claim not written');
  }
}

/** Ours from an earlier try, given back, or of a process of this machine that is gone. */
function isFree({ released, runId, process }: ClaimRecord, own: string): boolean {
  return released || runId === own || (process !== undefined && isGone(process) === true);
}

/** ms: longer the more writers there are. */
function jitter({ pollMs }: ClaimTiming, conflicts: number): number {
  return Math.random() * pollMs * 0.05 * Math.min(10, 1 + conflicts);
}
