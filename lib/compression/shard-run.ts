import { createHash } from 'node:crypto';
import { StepError } from '../errors.ts';
import type { ByteSource } from '../publish/send.ts';
import type { ErrorSums } from '../quantization/kernel.ts';
import { fixedValue } from '../quantization/outputs.ts';
import type { GlobalScales } from './global-scales.ts';
import { type Piece, type Plan, type PlannedShard, type PlannedWeight, piecesOf } from './plan.ts';
import { type QuantizedRows, quantizeInThread } from './rows.ts';
import type { Workers } from './workers.ts';

/** How far each module's weights moved. */
export type ErrorsByModule = [module: string, sums: ErrorSums][];

/** Takes a new file's bytes. */
export interface Sink {
  /** Takes bytes that belong at `offset`, in any order, which must not change until `release` is called. Waits where it has enough. */
  write(offset: number, bytes: Uint8Array, release?: () => void): Promise<void>;
}

export interface ShardTools {
  /** The shard as it was, and what helps where its bytes are wrong. */
  source: ByteSource;
  hint: string;
  output: Sink;
  workers: Workers;
  signal: AbortSignal;
  /** Bytes of the source that are done. */
  onBytes(bytes: number): void;
}

/** Memory for bytes on their way, where rows are so long that a piece for each thread and two more would be too much. */
const bytesInFlight = 24 * 1024 ** 2;

interface Pending {
  /** Bytes of the source. */
  length: number;
  module: string | undefined;
  done: Promise<QuantizedRows>;
}

/**
 * Makes one shard while its source is read once, in order, and hashed on the way. Throws `integrity` at the end when its bytes were not those of the
 * manifest, and before when a weight is no number: what was written is good only when `all` is done.
 */
export class ShardRun {
  readonly #plan: Plan;
  readonly #planned: PlannedShard;
  readonly #scales: GlobalScales;
  readonly #tools: ShardTools;
  readonly #hash = createHash('sha256');
  readonly #pending: Pending[] = [];
  readonly #errors = new Map<string, ErrorSums>();
  #reading: Promise<unknown> = Promise.resolve();

  constructor(plan: Plan, planned: PlannedShard, scales: GlobalScales, tools: ShardTools) {
    this.#plan = plan;
    this.#planned = planned;
    this.#scales = scales;
    this.#tools = tools;
  }

  /** Writes all of it. */
  async all(): Promise<ErrorsByModule> {
    const { signal, workers, output } = this.#tools;
    await output.write(0, this.#planned.layout.head);
    await this.#hashHead();
    const pieces = piecesOf(this.#planned, this.#plan.wanted.scheme);
    let inFlight = 0;
    let coming = this.#read(pieces.next().value);
    for (let read = await coming; read; read = await coming) {
      signal.throwIfAborted();
      const { piece, bytes } = read;
      coming = this.#read(pieces.next().value);
      this.#hash.update(bytes);
      this.#pending.push(await this.#begin(piece, bytes));
      inFlight += piece.length;
      while (this.#pending.length > workers.count + 1 || inFlight > bytesInFlight) inFlight -= await this.#writeFirst();
    }
    while (this.#pending.length > 0) await this.#writeFirst();
    this.#checkSource();
    return [...this.#errors];
  }

  /**
   * Waits for what is still read or computed; how that ends does not matter any more. All of the threads' memory is free then, also what a failure left:
   * shards are made one after the other.
   */
  async settle(): Promise<void> {
    await Promise.allSettled([this.#reading, ...this.#pending.map(({ done }) => done)]);
    this.#tools.workers.buffers.giveAll();
  }

  async #hashHead(): Promise<void> {
    const { header, headSha256, path } = this.#planned.shard;
    const { source, signal, hint } = this.#tools;
    const buffer = Buffer.allocUnsafeSlow(Math.min(header.dataOffset, 1024 ** 2));
    const head = createHash('sha256');
    for (let done = 0; done < header.dataOffset; ) {
      const piece = buffer.subarray(0, Math.min(buffer.length, header.dataOffset - done));
      await source.read(done, piece, signal);
      this.#hash.update(piece);
      head.update(piece);
      done += piece.length;
    }
    if (head.digest('hex') !== headSha256) {
      throw new StepError('integrity', `failed to read ${path}: its header changed since it was read first`, { hint });
    }
    this.#tools.onBytes(header.dataOffset);
  }

  /** Begins to read: the disk works while the piece before is hashed. A failure shows where it is awaited. */
  #read(piece: Piece | undefined): Promise<{ piece: Piece; bytes: Uint8Array<SharedArrayBuffer> } | undefined> {
    if (piece === undefined) return Promise.resolve(undefined);
    const { source, workers, signal } = this.#tools;
    const bytes = workers.buffers.take(piece.length);
    const into = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    const reading = source.read(piece.offset, into, signal).then(() => ({ piece, bytes }));
    reading.catch(() => {});
    this.#reading = reading;
    return reading;
  }

  /** Hands rows to a thread, and gives bytes that are only copied as if they came from one. */
  async #begin({ length, copyTo, rows }: Piece, bytes: Uint8Array<SharedArrayBuffer>): Promise<Pending> {
    const { workers, signal } = this.#tools;
    if (rows === undefined) {
      const parts = [{ bytes, offset: copyTo ?? 0 }];
      const done = { parts, sums: { error: 0, signal: 0 }, release: () => workers.buffers.give(bytes) };
      return { length, module: undefined, done: Promise.resolve(done) };
    }
    const { weight, first } = rows;
    const globalScale = await this.#scales.of(weight, signal);
    const done = quantizeInThread(bytes, rows, this.#plan.wanted, globalScale, workers).then((found) => {
      return first === 0 ? { ...found, parts: [...found.parts, ...fixedParts(weight, globalScale)] } : found;
    });
    done.catch(() => {});
    return { length, module: weight.module, done };
  }

  /** Writes the oldest piece's bytes, in the order in which they were read. Returns its bytes of the source. */
  async #writeFirst(): Promise<number> {
    const [first] = this.#pending;
    if (first === undefined) return 0;
    const { parts, sums, release } = await first.done;
    this.#pending.shift();
    let open = parts.length;
    for (const { bytes, offset } of parts) {
      await this.#tools.output.write(offset, bytes, () => {
        open -= 1;
        if (open === 0) release();
      });
    }
    if (first.module !== undefined) {
      const { error, signal } = this.#errors.get(first.module) ?? { error: 0, signal: 0 };
      this.#errors.set(first.module, { error: error + sums.error, signal: signal + sums.signal });
    }
    this.#tools.onBytes(first.length);
    return first.length;
  }

  #checkSource(): void {
    const { path, sha256 } = this.#planned.shard;
    const found = this.#hash.digest('hex');
    if (found === sha256) return;
    throw new StepError('integrity', `failed to read ${path}: its sha256 is ${found}, the manifest says ${sha256}`, {
      hint: this.#tools.hint,
    });
  }
}

/** What does not depend on the rows: the weight's shape, or the set's scale. */
function fixedParts({ outputs, shape }: PlannedWeight, globalScale: number): QuantizedRows['parts'] {
  return outputs
    .filter(({ perRow }) => perRow === 0)
    .map((output) => ({ bytes: fixedValue(output, shape, globalScale), offset: output.offset }));
}
