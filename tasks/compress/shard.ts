import { createHash } from 'node:crypto';
import { type FileHandle, mkdir, open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { StepError } from '../../lib/errors.ts';
import type { ErrorSums } from '../../lib/quantization/kernel.ts';
import { fixedValue } from '../../lib/quantization/outputs.ts';
import { readFully } from '../../lib/safetensors/header.ts';
import { safeJoin } from '../../lib/workspace.ts';
import type { GlobalScales } from './global-scales.ts';
import { OutputFile } from './output-file.ts';
import { type Piece, type Plan, type PlannedShard, type PlannedWeight, piecesOf } from './plan.ts';
import { type QuantizedRows, quantizeInThread } from './rows.ts';
import type { Workers } from './workers.ts';

/** A shard that lies where it belongs. */
export interface WrittenShard {
  path: string;
  /** Bytes. */
  size: number;
  sha256: string;
  /** How far each module's weights moved. */
  errors: [module: string, sums: ErrorSums][];
}

export interface ShardTools {
  sourceDir: string;
  /** Where it is written, and where it goes when it is whole. */
  partialDir: string;
  filesDir: string;
  workers: Workers;
  signal: AbortSignal;
  /** Bytes of the source that are done. */
  onBytes(bytes: number): void;
}

/** Memory for bytes on their way, where rows are so long that a piece for each thread and two more would be too much. */
const bytesInFlight = 24 * 1024 ** 2;

/**
 * Writes one shard while its source is read once, in order: both are hashed on the way, and it is renamed to its name only when the source's bytes were
 * those of the manifest. Throws `integrity` when they were not, or when a weight is no number.
 */
export async function writeShard(plan: Plan, planned: PlannedShard, scales: GlobalScales, tools: ShardTools): Promise<WrittenShard> {
  const { shard, layout } = planned;
  const [partial, target] = [safeJoin(tools.partialDir, shard.path), safeJoin(tools.filesDir, shard.path)];
  await mkdir(dirname(partial), { recursive: true });
  await mkdir(dirname(target), { recursive: true });
  await using source = await open(safeJoin(tools.sourceDir, shard.path), 'r');
  const output = await OutputFile.create(partial, layout.size);
  const run = new ShardRun(plan, planned, scales, tools, source, output);
  try {
    const errors = await run.all();
    const sha256 = await output.finish();
    await rename(partial, target);
    return { path: shard.path, size: layout.size, sha256, errors };
  } catch (error) {
    // Nothing of it may be read or written any more when the next try begins.
    await run.settle();
    await output.abandon();
    throw error;
  }
}

interface Pending {
  /** Bytes of the source. */
  length: number;
  module: string | undefined;
  done: Promise<QuantizedRows>;
}

class ShardRun {
  readonly #plan: Plan;
  readonly #planned: PlannedShard;
  readonly #scales: GlobalScales;
  readonly #tools: ShardTools;
  readonly #source: FileHandle;
  readonly #output: OutputFile;
  readonly #hash = createHash('sha256');
  readonly #pending: Pending[] = [];
  readonly #errors = new Map<string, ErrorSums>();
  #reading: Promise<unknown> = Promise.resolve();

  constructor(plan: Plan, planned: PlannedShard, scales: GlobalScales, tools: ShardTools, source: FileHandle, output: OutputFile) {
    this.#plan = plan;
    this.#planned = planned;
    this.#scales = scales;
    this.#tools = tools;
    this.#source = source;
    this.#output = output;
  }

  async all(): Promise<WrittenShard['errors']> {
    const { signal, workers } = this.#tools;
    await this.#output.write(0, this.#planned.layout.head);
    await this.#hashHead();
    const pieces = piecesOf(this.#planned, this.#plan.wanted.scheme);
    let inFlight = 0;
    let coming = this.#read(pieces.next().value);
    for (let read = await coming; read; read = await coming) {
      signal.throwIfAborted();
      const { piece, bytes } = read;
      coming = this.#read(pieces.next().value);
      this.#hash.update(new Uint8Array(bytes, 0, piece.length));
      this.#pending.push(await this.#begin(piece, bytes));
      inFlight += piece.length;
      while (this.#pending.length > workers.count + 1 || inFlight > bytesInFlight) inFlight -= await this.#writeFirst();
    }
    while (this.#pending.length > 0) await this.#writeFirst();
    this.#checkSource();
    return [...this.#errors];
  }

  /** Waits for what is still read or computed; how that ends does not matter any more. */
  async settle(): Promise<void> {
    await Promise.allSettled([this.#reading, ...this.#pending.map(({ done }) => done)]);
  }

  async #hashHead(): Promise<void> {
    const { header, path } = this.#planned.shard;
    const buffer = Buffer.allocUnsafeSlow(Math.min(header.dataOffset, 1024 ** 2));
    for (let done = 0; done < header.dataOffset; ) {
      const piece = buffer.subarray(0, Math.min(buffer.length, header.dataOffset - done));
      await readFully(this.#source, piece, done, path);
      this.#hash.update(piece);
      done += piece.length;
    }
    this.#tools.onBytes(header.dataOffset);
  }

  /** Begins to read: the disk works while the piece before is hashed. A failure shows where it is awaited. */
  #read(piece: Piece | undefined): Promise<{ piece: Piece; bytes: SharedArrayBuffer } | undefined> {
    if (piece === undefined) return Promise.resolve(undefined);
    const bytes = this.#tools.workers.buffers.take(piece.length);
    const { path } = this.#planned.shard;
    const reading = readFully(this.#source, new Uint8Array(bytes, 0, piece.length), piece.offset, path).then(() => ({ piece, bytes }));
    reading.catch(() => {});
    this.#reading = reading;
    return reading;
  }

  /** Hands rows to a thread, and gives bytes that are only copied as if they came from one. */
  async #begin({ length, copyTo, rows }: Piece, bytes: SharedArrayBuffer): Promise<Pending> {
    const { workers, signal } = this.#tools;
    if (rows === undefined) {
      const parts = [{ bytes: new Uint8Array(bytes, 0, length), offset: copyTo ?? 0 }];
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
      await this.#output.write(offset, bytes, () => {
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
      hint: 'run download again with --verify, with the same --workspace',
    });
  }
}

/** What does not depend on the rows: the weight's shape, or the set's scale. */
function fixedParts({ outputs, shape }: PlannedWeight, globalScale: number): QuantizedRows['parts'] {
  return outputs
    .filter(({ perRow }) => perRow === 0)
    .map((output) => ({ bytes: fixedValue(output, shape, globalScale), offset: output.offset }));
}
