import { createHash, type Hash } from 'node:crypto';
import { parentPort } from 'node:worker_threads';
import { crc32 } from 'node:zlib';

/** Work for the thread, on bytes that lie in shared memory. */
export type HashJob = { id: number } & (
  | { crc32: Uint8Array }
  /** More of a hash; without bytes: its end. */
  | { hash: number; bytes: Uint8Array | undefined }
);

export interface HashAnswer {
  id: number;
  /** A crc32, or a sha256 at its end (bare hex). */
  found: number | string | undefined;
}

const hashes = new Map<number, Hash>();

function work(job: HashJob): number | string | undefined {
  if ('crc32' in job) return crc32(job.crc32);
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
