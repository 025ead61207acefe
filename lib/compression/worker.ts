import { parentPort } from 'node:worker_threads';
import type { FloatType } from '../quantization/floats.ts';
import { type Arithmetic, type ErrorSums, maxAbs, type NotFinite, quantizeRows } from '../quantization/kernel.ts';
import type { Scheme } from '../quantization/schemes.ts';

/** Rows for a worker. Both pieces of memory are shared with it. */
export interface Job {
  id: number;
  /** Undefined: only the largest size among the weights is wanted. */
  scheme: Scheme | undefined;
  bytes: Uint8Array<SharedArrayBuffer>;
  dtype: FloatType;
  rows: number;
  cols: number;
  arithmetic: Arithmetic;
  globalScale: number;
  into: Uint8Array<SharedArrayBuffer>;
  /** Parts of `into`, one for each output, and how many bytes of it so many rows take. */
  parts: { offset: number; length: number; perRow: number; rowBytes: number }[];
  /** Errors are summed over so many of the rows, the first ones. */
  measured: number;
}

export interface Done {
  id: number;
  max: number;
  sums: ErrorSums;
  notFinite: NotFinite | undefined;
}

parentPort?.on('message', (job: Job) => {
  const { id, bytes } = job;
  const done: Done = { id, max: 0, sums: { error: 0, signal: 0 }, notFinite: undefined };
  if (job.scheme === undefined) done.max = maxAbs(bytes, job.dtype);
  else done.notFinite = quantizePart(job, job.scheme, 0, job.measured, done.sums) ?? quantizePart(job, job.scheme, job.measured, job.rows);
  parentPort?.postMessage(done);
});

function quantizePart(job: Job, scheme: Scheme, first: number, end: number, sums?: ErrorSums): NotFinite | undefined {
  const { bytes, into, parts, rows, cols, dtype, arithmetic, globalScale } = job;
  if (first === end) return undefined;
  const rowBytes = bytes.length / rows;
  const weights = bytes.subarray(first * rowBytes, end * rowBytes);
  const views = parts.map((part) => {
    const start = part.offset + (first / part.perRow) * part.rowBytes;
    return into.subarray(start, start + Math.ceil((end - first) / part.perRow) * part.rowBytes);
  });
  const notFinite = quantizeRows(scheme, { bytes: weights, dtype, rows: end - first, cols, arithmetic, globalScale }, views, sums);
  return notFinite && { ...notFinite, row: notFinite.row + first };
}
