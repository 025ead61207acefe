import { setTimeout as sleep } from 'node:timers/promises';
import { StepError } from '../errors.ts';
import { askedWaitMs, longestRetryAfterMs } from './retry.ts';

/** One request's place among those of its origin. */
export interface Turn {
  /** The head of the answer has come. */
  answered(status: number, headers: Readonly<Record<string, string | string[] | undefined>>): void;
  /** The request is over, answered or not; more than once does no harm. */
  leave(): void;
}

export interface GovernorOptions {
  /** Told when the origin asks for less: how many requests at once it gets from now on, and how long it gets none (ms). */
  onOverload?: ((limit: number, waitMs: number) => void) | undefined;
  /** ms, and a pause: a clock for tests. */
  now?: () => number;
  pause?: (ms: number, signal: AbortSignal | undefined) => Promise<void>;
}

/** From here on there is no limit any more: --concurrency is the limit. */
const unlimited = 256;

/**
 * How many requests one origin gets at once, over all connections of a run: as many as the run wants until it answers 429 or 503 (S3's SlowDown),
 * then half of those under way, and one more for each round that goes well (additive increase, multiplicative decrease, as in TCP).
 * A Retry-After holds every request of the run back, not only the one that was told.
 */
export class Governor {
  readonly #onOverload: GovernorOptions['onOverload'];
  readonly #now: () => number;
  readonly #pause: NonNullable<GovernorOptions['pause']>;
  #limit = Number.POSITIVE_INFINITY;
  #running = 0;
  /** Answers that went well since the limit was last changed. */
  #good = 0;
  /** How often the limit was lowered: what was under way then tells nothing about the new limit. */
  #cuts = 0;
  #notBefore = 0;
  readonly #waiting: (() => void)[] = [];

  constructor({ onOverload, now = () => performance.now(), pause = pauseFor }: GovernorOptions = {}) {
    this.#onOverload = onOverload;
    this.#now = now;
    this.#pause = pause;
  }

  /** Waits for a place; throws the signal's reason, and `transient` when the origin wants to be left alone for longer than a run waits. */
  async enter(signal?: AbortSignal): Promise<Turn> {
    for (let woken = false; ; ) {
      if (signal?.aborted) {
        if (woken) this.#wake();
        throw signal.reason;
      }
      const waitMs = this.#notBefore - this.#now();
      if (waitMs > longestRetryAfterMs) {
        const seconds = Math.round(waitMs / 1000);
        throw new StepError('transient', `failed to wait: the server asks for ${seconds} s without requests`, { retryAfterMs: waitMs });
      }
      if (waitMs > 0) await this.#pause(waitMs, signal);
      else if (this.#running < this.#limit) break;
      else {
        await this.#next(signal);
        woken = true;
      }
    }
    return this.#begin();
  }

  #begin(): Turn {
    this.#running += 1;
    const cuts = this.#cuts;
    let over = false;
    return {
      answered: (status, headers) => {
        const waitMs = askedWaitMs(status, headers) ?? 0;
        if (waitMs > 0) this.#notBefore = Math.max(this.#notBefore, this.#now() + waitMs);
        if (status !== 429 && status !== 503) return this.#well();
        if (cuts !== this.#cuts) return;
        this.#cuts += 1;
        this.#good = 0;
        this.#limit = Math.max(1, Math.floor(Math.min(this.#limit, this.#running) / 2));
        this.#onOverload?.(this.#limit, waitMs);
      },
      leave: () => {
        if (over) return;
        over = true;
        this.#running -= 1;
        this.#wake();
      },
    };
  }

  #well(): void {
    this.#good += 1;
    if (this.#good < this.#limit) return;
    this.#good = 0;
    this.#limit = this.#limit + 1 >= unlimited ? Number.POSITIVE_INFINITY : this.#limit + 1;
    this.#wake();
  }

  /** Lets the one that has waited longest look again. */
  #wake(): void {
    if (this.#running < this.#limit) this.#waiting.shift()?.();
  }

  #next(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const go = () => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      };
      const onAbort = () => {
        this.#waiting.splice(this.#waiting.indexOf(go), 1);
        resolve();
      };
      this.#waiting.push(go);
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }
}

async function pauseFor(ms: number, signal: AbortSignal | undefined): Promise<void> {
  await sleep(ms, undefined, signal ? { signal } : {}).catch(() => {});
}
