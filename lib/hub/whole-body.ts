import { StepError } from '../errors.ts';
import type { HttpAnswer } from '../http/answer.ts';
import { shownUrl } from '../shown-url.ts';

/** A body that holds a whole file, read piece by piece in rising order: for servers that know no ranges. */
export class WholeBody {
  /** The offset in the file of the next byte. */
  position = 0;
  readonly #answer: HttpAnswer;
  readonly #pieces: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(answer: HttpAnswer) {
    this.#answer = answer;
    // It stands between reads, which may wait for others.
    answer.leave();
    // Closed between two reads it must not end the process; the next read finds it closed.
    answer.body.on('error', () => {});
    this.#pieces = answer.body[Symbol.asyncIterator]();
  }

  /** Skips to `offset` and fills `into`. Throws `transient` when the body ends before. */
  async read(offset: number, into: Buffer, onBytes: (bytes: number) => void): Promise<void> {
    let filled = 0;
    while (filled < into.length) {
      if (this.#rest.length === 0) await this.#next();
      const skip = Math.min(this.#rest.length, Math.max(0, offset - this.position));
      const copied = this.#rest.copy(into, filled, skip, skip + into.length - filled);
      this.position += skip + copied;
      this.#rest = this.#rest.subarray(skip + copied);
      filled += copied;
      if (copied > 0) onBytes(copied);
    }
  }

  /** Lets the connection go. */
  close(): void {
    this.#answer.body.destroy();
  }

  async #next(): Promise<void> {
    const { done, value } = await this.#pieces.next();
    if (done) throw new StepError('transient', `failed to read ${shownUrl(this.#answer.url)}: it ends after ${this.position} bytes`);
    this.#rest = value as Buffer;
  }
}

/** Lets one in at a time, the lowest offset first. */
export class RisingTurns {
  readonly #waiting: { offset: number; go: () => void }[] = [];
  #busy = false;

  /** Waits for the turn; returns what ends it. */
  async take(offset: number): Promise<() => void> {
    await new Promise<void>((go) => {
      this.#waiting.push({ offset, go });
      // Those who come in the same moment are compared first.
      setImmediate(() => this.#next());
    });
    return () => {
      this.#busy = false;
      this.#next();
    };
  }

  #next(): void {
    if (this.#busy) return;
    const [first] = this.#waiting.sort((a, b) => a.offset - b.offset).splice(0, 1);
    if (first === undefined) return;
    this.#busy = true;
    first.go();
  }
}
