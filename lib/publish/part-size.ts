import type { StoreLimits } from '../store.ts';
import { bufferBytes, sizeForAll } from '../transfer/buffers.ts';

/** How a run cuts files: up to which size one request takes all, and how large parts are. Bytes. */
export interface Cutting {
  whole: number;
  part: number;
}

const mebibyte = 1024 ** 2;

/** Parts as large as was asked for, or smaller, so that every connection has a buffer (`buffers`: bytes of all): a slow link is not filled by a few. */
export function cutting(partSize: number, buffers: number, connections: number): Cutting {
  const share = sizeForAll(partSize, buffers, connections);
  // Not smaller for what goes whole: in parts it would be four requests.
  return { whole: partSize, part: share < partSize ? share - (share % mebibyte) : share };
}

/** The same from a run's parameters. */
export function cuttingOf({ partSize, maxMemory, concurrency }: { partSize: number; maxMemory: number; concurrency: number }): Cutting {
  return cutting(partSize, bufferBytes(maxMemory, concurrency), concurrency);
}

/** The part size for a file, so that it fits into the store's number of parts (10,000 in S3); its own size at least where it goes whole. Bytes. */
export function partSizeFor(size: number, { whole, part }: Cutting, { minPart, maxPart, maxParts }: StoreLimits): number {
  if (size <= whole) return Math.max(whole, minPart);
  const least = Math.ceil(size / maxParts / mebibyte) * mebibyte;
  return Math.min(maxPart, Math.max(minPart, part, least));
}
