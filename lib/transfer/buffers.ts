import { Budget } from './budget.ts';

export interface LentBuffer {
  bytes: Buffer;
  /** Gives it back, once. */
  release: () => void;
}

/** What the runtime, the clients and the sockets take besides part buffers, in bytes (measured: 101 MB resident for an upload that sends nothing; a sync of large files peaks at 150 MB besides its buffers). */
const runtimeBytes = 170 * 1024 ** 2;
const smallestShare = 16 * 1024 ** 2;
/** Those eight connections are in it; each one more takes so many bytes (measured: 64 of them and their smaller parts 20 to 40 MB more). */
const [usualConnections, connectionBytes] = [8, 384 * 1024];

/** How many bytes part buffers may take so that the process stays under `maxMemory` bytes resident with so many connections to each end. */
export function bufferBytes(maxMemory: number, connections: number): number {
  const more = Math.max(0, connections - usualConnections) * connectionBytes;
  return Math.max(smallestShare, maxMemory - runtimeBytes - more);
}

/** A request costs as much as some bytes do: ranges are not made smaller than this. */
const smallestRange = 1024 ** 2;

/** How large (bytes) a range or part may be so that each of so many connections has room for one in `buffers` bytes; never larger than `wanted`. */
export function sizeForAll(wanted: number, buffers: number, connections: number): number {
  return Math.min(wanted, Math.max(smallestRange, Math.floor(buffers / connections)));
}

/** Small files and last parts take buffers of a few sizes, which are used again whatever the file's size. */
const smallestBuffer = 64 * 1024;

/**
 * Lends buffers under one byte budget and lends them again: memory does not wait for the garbage collector. Those that nobody uses count too, so
 * that the budget holds for all of them together.
 */
export class BufferPool {
  readonly #budget: Budget;
  readonly #free = new Map<number, Buffer[]>();
  /** Bytes of all buffers, lent and free. */
  #made = 0;

  constructor(bytes: number) {
    this.#budget = new Budget(bytes);
  }

  get total(): number {
    return this.#budget.total;
  }

  /** A buffer of exactly `size` bytes, in the order it is asked for, cut from one that is at most twice as large, and at most `most` bytes. */
  async take(size: number, signal: AbortSignal, most = Number.POSITIVE_INFINITY): Promise<LentBuffer> {
    const capacity = Math.max(size, Math.min(most, Math.max(smallestBuffer, 2 ** Math.ceil(Math.log2(size)))));
    const giveBack = await this.#budget.take(capacity, signal);
    const whole = this.#free.get(capacity)?.pop() ?? this.#make(capacity);
    let lent = true;
    const release = () => {
      if (!lent) return;
      lent = false;
      const sameSize = this.#free.get(capacity) ?? [];
      sameSize.push(whole);
      this.#free.set(capacity, sameSize);
      giveBack();
    };
    return { bytes: whole.subarray(0, size), release };
  }

  #make(capacity: number): Buffer {
    for (const [size, buffers] of this.#free) {
      while (this.#made + capacity > this.#budget.total && buffers.pop()) this.#made -= size;
    }
    this.#made += capacity;
    // Shared memory: a thread may hash what is in it.
    return Buffer.from(new SharedArrayBuffer(capacity));
  }
}
