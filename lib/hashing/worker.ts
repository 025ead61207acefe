import { createHash, type Hash } from 'node:crypto';
import { parentPort } from 'node:worker_threads';
import { crc32 } from 'node:zlib';

/** Work for the thread, on bytes that lie in shared memory. */
export type HashJob = { id: number } & (
  | { crc32: Uint8Array }
  | { whole: Uint8Array; wantsCrc32: boolean }
  /** More of a hash; without bytes: its end. */
  | { hash: number; bytes: Uint8Array | undefined }
);

/** What bytes hash to: sha256 in bare hex, crc32 where it was asked for. */
export interface Digests {
  sha256: string;
  crc32?: number | undefined;
}

export interface HashAnswer {
  id: number;
  /** A crc32, a sha256 at its end (bare hex), or both of a whole. */
  found: number | string | Digests | undefined;
}

const hashes = new Map<number, Hash>();

function work(job: HashJob): HashAnswer['found'] {
  if ('crc32' in job) return crc32(job.crc32);
  if ('whole' in job) {
    return { sha256: createHash('sha256').update(job.whole).digest('hex'), crc32: job.wantsCrc32 ? crc32(job.whole) : undefined };
  }
  const sha256 = hashes.get(job.hash) ?? createHash('sha256');
  hashes.set(job.hash, sha256);
  if (job.bytes) {
    sha256.update(job.bytes);
    return undefined;
  }
  hashes.delete(job.hash);
  return sha256.digest('hex');
}

parentPort?.on('message', (job: HashJob) => {
  parentPort?.postMessage({ id: job.id, found: work(job) } satisfies HashAnswer);
});
