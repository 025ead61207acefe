import { Budget } from './budget.ts';

export interface LentBuffer {
  bytes: Buffer;
  /** Gives it back, once. */
  release: () => void;
}

/** What the runtime, the clients and the sockets take besides part buffers, in bytes (measured: 101 MB resident for an upload that sends nothing; a sync of large files peaks at 150 MB besides its buffers). */
const runtimeBytes = 170 * 1024 ** 2;
const smallestShare = 16 * 1024 ** 2;

/** How many bytes part buffers may take so that the process stays under `maxMemory` bytes resident. */
export function bufferBytes(maxMemory: number): number {
  return Math.max(smallestShare, maxMemory - runtimeBytes);
}

/** Lends buffers under one byte budget and lends them again: memory does not wait for the garbage collector. */
export class BufferPool {
  readonly #budget: Budget;
  readonly #free = new Map<number, Buffer[]>();
  #kept = 0;

  constructor(bytes: number) {
    this.#budget = new Budget(bytes);
  }

  get total(): number {
    return this.#budget.total;
  }

  /** A buffer of exactly `size` bytes, in the order it is asked for; `capacity` is what it is cut from, so that equal ones are used again. */
  async take(size: number, signal: AbortSignal, capacity = size): Promise<LentBuffer> {
    const giveBack = await this.#budget.take(capacity, signal);
    const whole = this.#reuse(capacity);
    let lent = true;
    const release = () => {
      if (!lent) return;
      lent = false;
      this.#keep(whole);
      giveBack();
    };
    return { bytes: whole.subarray(0, size), release };
  }

  #reuse(capacity: number): Buffer {
    const buffer = this.#free.get(capacity)?.pop();
    if (buffer === undefined) return Buffer.allocUnsafeSlow(capacity);
    this.#kept -= capacity;
    return buffer;
  }

  /** Buffers that nobody uses count too: sizes that are not asked for again go. */
  #keep(buffer: Buffer): void {
    if (this.#kept + buffer.length > this.#budget.total / 2) {
      this.#free.clear();
      this.#kept = 0;
    }
    const sameSize = this.#free.get(buffer.length) ?? [];
    sameSize.push(buffer);
    this.#free.set(buffer.length, sameSize);
    this.#kept += buffer.length;
  }
}
