import type { Sink } from './shard-run.ts';

interface Window {
  offset: number;
  into: Buffer;
  resolve: () => void;
  reject: (error: unknown) => void;
}

/**
 * Hands on in order what is written in nearly that order, straight into the buffers of those who read: nothing is made before somebody waits for it.
 * What comes before its turn (scales stand behind their weights, and come with them) is kept until then.
 */
export class InOrder implements Sink {
  readonly #size: number;
  /** Up to here all is handed on. */
  #position = 0;
  /** By their start: what was written ahead of that. */
  readonly #ahead = new Map<number, Uint8Array>();
  /** Who waits for bytes, in their order. */
  readonly #windows: Window[] = [];
  /** Holds the last bytes, until it is known that all are right. */
  #last: Window | undefined;
  #wake: (() => void) | undefined;
  #failure: { reason: unknown } | undefined;

  /** @param size Bytes of all. */
  constructor(size: number) {
    this.#size = size;
  }

  /** Fills `into` with the bytes from `offset`; who waits for the last ones waits for `end` too. May be called side by side. */
  read(offset: number, into: Buffer): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#failure) return reject(this.#failure.reason);
      this.#windows.push({ offset, into, resolve, reject });
      this.#windows.sort((a, b) => a.offset - b.offset);
      this.#wake?.();
    });
  }

  async write(offset: number, bytes: Uint8Array, release?: () => void): Promise<void> {
    if (offset === this.#position) await this.#handOn(bytes);
    else if (bytes.length > 0) this.#ahead.set(offset, Uint8Array.from(bytes));
    release?.();
    for (let next = this.#ahead.get(this.#position); next; next = this.#ahead.get(this.#position)) {
      this.#ahead.delete(this.#position);
      await this.#handOn(next);
    }
  }

  /** All bytes were right. */
  end(): void {
    this.#last?.resolve();
  }

  /** Ends all that wait, now and later; nothing is put into their buffers any more. */
  fail(reason: unknown): void {
    this.#failure ??= { reason };
    for (const { reject } of [...this.#windows.splice(0), ...(this.#last ? [this.#last] : [])]) reject(this.#failure.reason);
    this.#wake?.();
  }

  async #handOn(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const window = await this.#next();
      const start = this.#position - window.offset;
      const length = Math.min(window.into.length - start, bytes.length - done);
      window.into.set(bytes.subarray(done, done + length), start);
      done += length;
      this.#position += length;
      if (start + length < window.into.length) continue;
      this.#windows.shift();
      if (this.#position === this.#size) this.#last = window;
      else window.resolve();
    }
  }

  /** Who waits for the next byte. */
  async #next(): Promise<Window> {
    for (;;) {
      if (this.#failure) throw this.#failure.reason;
      const [first] = this.#windows;
      if (first && first.offset <= this.#position) return first;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
  }
}
