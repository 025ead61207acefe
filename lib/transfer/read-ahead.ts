import type { Budget } from './budget.ts';

/** Something whose bytes can be had by ranges. */
export interface Ranges {
  read(offset: number, into: Buffer, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

export interface ReadAheadOptions {
  /** Bytes of the whole. */
  size: number;
  /** Bytes of one range, and of all that is held at once. */
  rangeSize: number;
  memory: number;
  /** Shared by all who read from the same end. */
  connections: Budget;
}

/**
 * Reads from the start to the end, in any pieces, of something that is far: ranges are fetched side by side before they are asked for, into the same few
 * buffers over and over.
 */
export class ReadAhead implements Ranges {
  readonly #from: Ranges;
  readonly #options: ReadAheadOptions;
  readonly #ended = new AbortController();
  /** Those under way or there, in order; the first holds the next byte. */
  readonly #coming: { start: number; bytes: Buffer; done: Promise<void> }[] = [];
  readonly #free: Buffer[] = [];
  #made = 0;
  /** Where the next range begins that was not asked for yet. */
  #next = 0;

  constructor(from: Ranges, options: ReadAheadOptions) {
    this.#from = from;
    this.#options = options;
  }

  /** Fills `into` with the bytes from `offset`, which is where the last read ended. Throws what the range met. */
  async read(offset: number, into: Buffer, signal: AbortSignal): Promise<void> {
    for (let done = 0; done < into.length; ) {
      this.#fetch();
      const first = this.#coming[0];
      if (first === undefined || first.start > offset + done) throw new Error(`read-ahead: byte ${offset + done} was let go`);
      await untilAborted(first.done, signal);
      const at = offset + done - first.start;
      done += first.bytes.copy(into, done, at);
      if (offset + done < first.start + first.bytes.length) continue;
      this.#coming.shift();
      this.#free.push(first.bytes);
    }
  }

  /** Ends what is under way, and waits for it. */
  async close(): Promise<void> {
    this.#ended.abort(new Error('nobody reads on'));
    await Promise.allSettled(this.#coming.map(({ done }) => done));
    await this.#from.close();
  }

  #fetch(): void {
    const { size, rangeSize, memory } = this.#options;
    while (this.#next < size) {
      const room = this.#free.pop() ?? ((this.#made + 1) * rangeSize <= Math.max(memory, rangeSize) ? this.#make() : undefined);
      if (room === undefined) return;
      const start = this.#next;
      const bytes = room.subarray(0, Math.min(rangeSize, size - start));
      this.#next += bytes.length;
      const done = this.#fill(start, bytes);
      // Who reads on is told.
      done.catch(() => {});
      this.#coming.push({ start, bytes, done });
    }
  }

  #make(): Buffer {
    this.#made += 1;
    return Buffer.allocUnsafeSlow(this.#options.rangeSize);
  }

  async #fill(start: number, bytes: Buffer): Promise<void> {
    const { signal } = this.#ended;
    const leave = await this.#options.connections.take(1, signal);
    try {
      await this.#from.read(start, bytes, signal);
    } finally {
      leave();
    }
  }
}

async function untilAborted(work: Promise<void>, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const { promise, reject } = Promise.withResolvers<never>();
  const onAbort = () => reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
