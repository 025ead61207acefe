import { createHash, type Hash } from 'node:crypto';
import { parentPort } from 'node:worker_threads';

/** Bytes for a hash, in shared memory; undefined: its end. */
export interface HashJob {
  id: number;
  hash: number;
  bytes: Uint8Array | undefined;
}

export interface HashAnswer {
  id: number;
  /** Bare hex; empty for what was not the end. */
  digest: string;
}

const hashes = new Map<number, Hash>();

parentPort?.on('message', ({ id, hash, bytes }: HashJob) => {
  const sha256 = hashes.get(hash) ?? createHash('sha256');
  hashes.set(hash, sha256);
  let digest = '';
  if (bytes) sha256.update(bytes);
  else {
    digest = sha256.digest('hex');
    hashes.delete(hash);
  }
  parentPort?.postMessage({ id, digest } satisfies HashAnswer);
});
