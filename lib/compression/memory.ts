import { StepError } from '../errors.ts';
import { showBytes } from '../units.ts';
import type { Plan, PlannedShard } from './plan.ts';
import { threadsHere } from './workers.ts';

const mebibyte = 1024 ** 2;

/**
 * What the runtime, the store's client and the rows on their way take, a far end that is read from, and each thread, in bytes (measured: up to 196 MiB in
 * all with 2 threads, 225 with 4, and 208 with 2 and the Hub).
 */
const runtimeBytes = 160 * mebibyte;
const farEndBytes = 20 * mebibyte;
const threadBytes = 20 * mebibyte;
/** What shall be left for parts, at the cost of threads, and what is shared out at least, whatever was asked for. */
const wantedBytes = 36 * mebibyte;
const leastBytes = 32 * mebibyte;
/** So many parts fit in: one is filled while others are sent. */
const parts = 3;
const mostReadAhead = 32 * mebibyte;
const leastReadAhead = 8 * mebibyte;

/** How the memory of a run is shared out, in bytes. */
export interface Shares {
  threads: number;
  /** All part buffers together, and one part at most. */
  buffers: number;
  part: number;
  /** Ranges that are read before they are needed; 0 where nothing is read ahead. */
  readAhead: number;
}

export interface Wish {
  /** Bytes, as asked for. */
  partSize: number;
  maxMemory: number;
  /** The store's smallest part. */
  minPart: number;
  readsAhead: boolean;
}

/** Shares `maxMemory` out. Throws `usage` telling how much is needed when what must wait for its turn does not fit in. */
export function sharesOf({ shards }: Plan, { partSize, maxMemory, minPart, readsAhead }: Wish): Shares {
  const ahead = shards.reduce((most, shard) => Math.max(most, aheadBytes(shard)), 0);
  const fixedBytes = runtimeBytes + (readsAhead ? farEndBytes : 0);
  const forReading = readsAhead ? leastReadAhead : 0;
  const least = 2 * minPart + forReading + ahead;
  const threads = threadsHere(Math.floor((maxMemory - fixedBytes - Math.max(wantedBytes, least)) / threadBytes));
  const free = Math.max(leastBytes, maxMemory - fixedBytes - threads * threadBytes);
  if (free < least) {
    const needed = Math.ceil((fixedBytes + threadBytes + least) / mebibyte);
    throw new StepError('usage', `failed to share out --max-memory: ${showBytes(ahead)} of scales must wait for the end of their weight`, {
      hint: `give at least ${needed}MiB, or make the model in a workspace: download, compress and upload`,
    });
  }
  const readAhead = readsAhead ? Math.min(mostReadAhead, forReading + Math.floor((free - least) / 2)) : 0;
  const buffers = free - ahead - readAhead;
  return { threads, buffers, part: Math.max(minPart, Math.min(partSize, Math.floor(buffers / parts))), readAhead };
}

/**
 * The most bytes of a shard that are made before their turn: scales come with the rows of their weight and stand behind all of them, and what does not
 * end on 8 bytes stands at the end.
 */
export function aheadBytes({ layout, work }: PlannedShard): number {
  const uneven = layout.tensors.reduce((sum, { size }) => sum + (size % 8 === 0 ? 0 : size), 0);
  const weights = work.flatMap((each) => ('weights' in each ? each.weights : []));
  const behind = weights.map(({ outputs: [, ...rest] }) => rest.reduce((sum, { bytes }) => sum + bytes, 0));
  return uneven + behind.reduce((most, bytes) => Math.max(most, bytes), 0);
}
