/** What may come at once after a pause, in ms of the rate: timers that come late shall not cost speed. */
const slackMs = 50;

/** Keeps the bytes of all connections together under a rate: whoever has moved some asks how long to pause. */
export class Rate {
  readonly #bytesPerMs: number;
  readonly #now: () => number;
  /** When all that was moved by now would have gone through at the rate. */
  #through = 0;

  /** `bytesPerSecond` may be Infinity: then there are no pauses. */
  constructor(bytesPerSecond: number, now = () => performance.now()) {
    this.#bytesPerMs = bytesPerSecond / 1000;
    this.#now = now;
  }

  /** Counts bytes that have just been moved (or are about to be); returns the ms to pause before the next. */
  count(bytes: number): number {
    const now = this.#now();
    this.#through = Math.max(this.#through, now - slackMs) + bytes / this.#bytesPerMs;
    return Math.max(0, this.#through - now);
  }
}

/** A connection that brings less than this is of no use to anyone, but is never silent: it would hold its part for ever. Bytes per second. */
export const floorRate = 1024;

/** Notices a connection that trickles; one that is silent is the socket's own timeout to notice. */
export class TrickleWatch {
  readonly #windowMs: number;
  readonly #now: () => number;
  #since: number;
  #bytes = 0;

  /** `windowMs`: so long it may go below the floor. */
  constructor(windowMs: number, now = () => performance.now()) {
    this.#windowMs = windowMs;
    this.#now = now;
    this.#since = now();
  }

  /** Counts bytes that came; true when there were too few over a whole window. */
  isTrickling(bytes: number): boolean {
    this.#bytes += bytes;
    const elapsed = this.#now() - this.#since;
    if (elapsed < this.#windowMs) return false;
    const trickling = this.#bytes < (floorRate * elapsed) / 1000;
    this.#since += elapsed;
    this.#bytes = 0;
    return trickling;
  }

  /** So long (ms) we ourselves take nothing. */
  paused(ms: number): void {
    this.#since += ms;
  }
}
