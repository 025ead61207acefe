import { StepError } from '../errors.ts';
import type { FloatType } from '../quantization/floats.ts';
import type { ErrorSums, NotFinite } from '../quantization/kernel.ts';
import type { PlannedOutput, PlannedWeight, Rows, Wanted } from './plan.ts';
import type { Done } from './worker.ts';
import type { Workers } from './workers.ts';

/** Where a block of rows lands in one output: there, and in the buffer that the thread fills. */
interface Part {
  offset: number;
  length: number;
  perRow: number;
  rowBytes: number;
  /** First byte in the new file. */
  target: number;
}

export interface QuantizedRows {
  /** Bytes and their place in the new file. */
  parts: { bytes: Uint8Array; offset: number }[];
  sums: ErrorSums;
  /** Gives the memory back: others write there then. */
  release(): void;
}

/** Quantizes rows in a thread; `bytes` goes back to the pool. Throws `integrity` naming the tensor when a weight is no number. */
export async function quantizeInThread(
  bytes: Uint8Array<SharedArrayBuffer>,
  { weight, first, count, measured }: Rows,
  { scheme, arithmetic }: Wanted,
  globalScale: number,
  workers: Workers,
): Promise<QuantizedRows> {
  const parts = partsOf(weight, first, count);
  const last = parts.at(-1);
  const into = workers.buffers.take(last ? last.offset + last.length : 0);
  const [, cols] = weight.shape;
  const dtype = weight.tensor.dtype as FloatType;
  const done = await workers.run({ scheme, bytes, dtype, rows: count, cols, arithmetic, globalScale, into, parts, measured });
  workers.buffers.give(bytes);
  if (done.notFinite) throw notFinite(weight, first, done.notFinite);
  return {
    parts: parts.map((part) => ({ bytes: into.subarray(part.offset, part.offset + part.length), offset: part.target })),
    sums: done.sums,
    release: () => workers.buffers.give(into),
  };
}

/** The largest size among rows, found in a thread. Throws `integrity` as `quantizeInThread` does. */
export async function largestInThread(bytes: Uint8Array<SharedArrayBuffer>, weight: PlannedWeight, workers: Workers): Promise<number> {
  const dtype = weight.tensor.dtype as FloatType;
  const into = new Uint8Array(new SharedArrayBuffer(0));
  const job = { scheme: undefined, bytes, dtype, rows: 0, cols: 0, arithmetic: 'f32', globalScale: 1, into, measured: 0 } as const;
  const done: Done = await workers.run({ ...job, parts: [] });
  workers.buffers.give(bytes);
  if (!Number.isFinite(done.max)) throw noNumber(weight, `it holds ${done.max}`);
  return done.max;
}

function partsOf({ outputs }: PlannedWeight, first: number, count: number): Part[] {
  let end = 0;
  return outputs.flatMap(({ perRow, rowBytes, offset: target }: PlannedOutput) => {
    if (perRow === 0) return [];
    const length = Math.ceil(count / perRow) * rowBytes;
    const part = { offset: end, length, perRow, rowBytes, target: target + (first / perRow) * rowBytes };
    // Threads may write whole words.
    end += Math.ceil(length / 8) * 8;
    return [part];
  });
}

function notFinite(weight: PlannedWeight, first: number, { row, col, value }: NotFinite): StepError {
  return noNumber(weight, `row ${first + row}, column ${col} is ${value}`);
}

function noNumber({ module, tensor }: PlannedWeight, why: string): StepError {
  const part = tensor.name.startsWith(module) ? '' : ` of ${tensor.name}`;
  return new StepError('integrity', `failed to compress ${module}.weight${part} in ${tensor.file}: ${why}`, {
    hint: 'the checkpoint is broken there; --ignore leaves such a module as it is',
  });
}
