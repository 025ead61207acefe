import { createHash, type Hash } from 'node:crypto';
import { readSync } from 'node:fs';
import { parentPort } from 'node:worker_threads';
import { crc32 } from 'node:zlib';

/** Work for the thread, on bytes that lie in shared memory. */
export type HashJob = { id: number } & (
  | { crc32: Uint8Array }
  | { whole: Uint8Array; wantsCrc32: boolean }
  /** A whole that is read from an open file first. */
  | { fd: number; into: Uint8Array; wantsCrc32: boolean }
  /** More of a hash; without bytes: its end. */
  | { hash: number; bytes: Uint8Array | undefined }
);

/** What bytes hash to: sha256 in bare hex, crc32 where it was asked for. */
export interface Digests {
  sha256: string;
  crc32?: number | undefined;
}

/** A file as it was read: without digests when not all of it could be. */
export interface ReadDigests {
  digests: Digests | undefined;
  /** How long the reading took. */
  readMs: number;
}

export interface HashAnswer {
  id: number;
  /** A crc32, a sha256 at its end (bare hex), or both of a whole. */
  found: number | string | Digests | ReadDigests | undefined;
}

const hashes = new Map<number, Hash>();

function work(job: HashJob): HashAnswer['found'] {
  if ('crc32' in job) return crc32(job.crc32);
  if ('whole' in job) return digestsOf(job.whole, job.wantsCrc32);
  if ('fd' in job) {
    const began = performance.now();
    const whole = readWhole(job.fd, job.into);
    const readMs = performance.now() - began;
    return { digests: whole ? digestsOf(job.into, job.wantsCrc32) : undefined, readMs };
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

function digestsOf(bytes: Uint8Array, wantsCrc32: boolean): Digests {
  return { sha256: createHash('sha256').update(bytes).digest('hex'), crc32: wantsCrc32 ? crc32(bytes) : undefined };
}

/** False when the file has fewer bytes, or cannot be read. */
function readWhole(fd: number, into: Uint8Array): boolean {
  try {
    for (let done = 0; done < into.length; ) {
      const bytesRead = readSync(fd, into, done, into.length - done, done);
      if (bytesRead === 0) return false;
      done += bytesRead;
    }
    return true;
  } catch {
    return false;
  }
}

parentPort?.on('message', (job: HashJob) => {
  parentPort?.postMessage({ id: job.id, found: work(job) } satisfies HashAnswer);
});
