import type { Expected } from '../integrity.ts';

/** Bytes that a connection could have carried in the time that a file's requests take besides: many small files are work too. */
const fileCost = 1024 ** 2;

/**
 * Cuts files into at most so many shards, as even as whole files allow: the largest file first, each to the shard that has least so far
 * (Graham 1969: at most 4/3 of the best). No shard is empty, and equal input gives equal shards. Files of a shard are in order of path.
 */
export function cut(files: readonly Expected[], wanted: number): Expected[][] {
  const shards = Array.from({ length: Math.min(wanted, files.length) }, () => ({ cost: 0, files: [] as Expected[] }));
  const order = [...files].sort((a, b) => b.size - a.size || byPath(a, b));
  for (const file of order) {
    const least = shards.reduce((best, shard) => (shard.cost < best.cost ? shard : best));
    least.files.push(file);
    least.cost += file.size + fileCost;
  }
  return shards.map((shard) => shard.files.sort(byPath));
}

export interface Balance {
  /** Bytes of the largest shard, and of all shards divided by their number. */
  largest: number;
  mean: number;
  /** How many shards would be as quick: more do not help, because one file is the unit. */
  useful: number;
}

/** How even the shards are. */
export function balanceOf(shards: readonly (readonly Expected[])[]): Balance {
  const sums = shards.map((files) => files.reduce((sum, file) => sum + file.size, 0));
  const total = sums.reduce((sum, each) => sum + each, 0);
  const largest = Math.max(...sums);
  const longest = Math.max(...shards.flat().map((file) => file.size));
  return { largest, mean: total / shards.length, useful: Math.min(shards.length, Math.max(1, Math.ceil(total / Math.max(1, longest)))) };
}

/** By code unit, so that every machine sorts alike. */
export function byPath(a: { path: string }, b: { path: string }): number {
  return a.path < b.path ? -1 : a.path > b.path ? 1 : 0;
}
