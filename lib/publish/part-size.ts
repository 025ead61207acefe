import type { Store, StoreLimits } from '../store.ts';
import { bufferBytes, sizeForAll } from '../transfer/buffers.ts';

/** How a run cuts files: up to which size one request takes all, and how large parts are. Bytes. */
export interface Cutting {
  whole: number;
  part: number;
}

const mebibyte = 1024 ** 2;

/** Whose quickest answer takes longer (ms) is not in the same data centre. */
const farMs = 10;

/**
 * How many buffers keep all connections busy: one for each to the store while a sent part is soon gone; where it is long on its way, as many more are
 * filled meanwhile as there are connections to where bytes come from (`sources`).
 */
export function buffersFor({ latencyMs }: Pick<Store, 'latencyMs'>, connections: number, sources: number): number {
  return latencyMs < farMs ? connections : connections + sources;
}

/** Parts as large as was asked for, or smaller, so that there are so many buffers in `bytes`: a slow link is not filled by a few. */
export function cutting(partSize: number, bytes: number, buffers: number): Cutting {
  const share = sizeForAll(partSize, bytes, buffers);
  // Not smaller for what goes whole: in parts it would be four requests.
  return { whole: partSize, part: share < partSize ? share - (share % mebibyte) : share };
}

/** The same from a run's parameters, for a store that is near. */
export function cuttingOf({ partSize, maxMemory, concurrency }: { partSize: number; maxMemory: number; concurrency: number }): Cutting {
  return cutting(partSize, bufferBytes(maxMemory, concurrency), concurrency);
}

/** The part size for a file, so that it fits into the store's number of parts (10,000 in S3); its own size at least where it goes whole. Bytes. */
export function partSizeFor(size: number, { whole, part }: Cutting, { minPart, maxPart, maxParts }: StoreLimits): number {
  if (size <= whole) return Math.max(whole, minPart);
  const least = Math.ceil(size / maxParts / mebibyte) * mebibyte;
  return Math.min(maxPart, Math.max(minPart, part, least));
}
