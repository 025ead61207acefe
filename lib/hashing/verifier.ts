import { crc32 } from 'node:zlib';
import { compareFound, type Expected, Verifier } from '../integrity.ts';
import { hashThread, isShared, worthAThread } from './thread.ts';
import type { Digests, ReadDigests } from './worker.ts';

/** A Verifier whose work may be another thread's. */
export interface AsyncVerifier extends Disposable {
  /** In order, each after the one before is settled. */
  update(bytes: Uint8Array): void | Promise<void>;
  /** Throws as Verifier does. */
  finish(): Promise<string>;
}

/** The thread, for a file that is worth it. A git sha1, which few large files have, is not computed there. */
function threadFor(file: Expected): typeof hashThread {
  return file.gitSha1 !== undefined || file.size < worthAThread ? undefined : hashThread;
}

/** The digests of a file that is in memory whole, and not changed meanwhile. Throws as Verifier does. */
export async function digestsOf(file: Expected, bytes: Uint8Array, { wantsCrc32 }: { wantsCrc32: boolean }): Promise<Digests> {
  const thread = threadFor(file);
  if (thread !== undefined) {
    const digests = await thread.digests(bytes, wantsCrc32);
    compareFound(file, { size: bytes.length, sha256: digests.sha256 });
    return digests;
  }
  const verifier = new Verifier(file);
  verifier.update(bytes);
  return { sha256: verifier.finish(), crc32: wantsCrc32 ? crc32(bytes) : undefined };
}

/**
 * Reads a file whole out of an open one, and hashes it in the same turn of the thread: a turn less for each file. Undefined where no thread does that; without
 * digests when not all could be read, which another way of reading may tell more of. Throws as Verifier does.
 */
export async function readDigests(
  file: Expected,
  { fd, into }: { fd: number; into: Buffer },
  { wantsCrc32 }: { wantsCrc32: boolean },
): Promise<ReadDigests | undefined> {
  if (!isShared(into)) return undefined;
  const read = await threadFor(file)?.readDigests(fd, into, wantsCrc32);
  if (read?.digests) compareFound(file, { size: into.length, sha256: read.digests.sha256 });
  return read;
}

/** Hashes a file as its bytes pass: in a thread where that pays. */
export function verifierFor(file: Expected): AsyncVerifier {
  const thread = threadFor(file);
  if (thread === undefined) {
    const verifier = new Verifier(file);
    return { update: (bytes) => verifier.update(bytes), finish: async () => verifier.finish(), [Symbol.dispose]() {} };
  }
  const hash = thread.begin();
  let size = 0;
  return {
    update(bytes) {
      size += bytes.length;
      return hash.update(bytes);
    },
    async finish() {
      const sha256 = await hash.digest();
      compareFound(file, { size, sha256 });
      return sha256;
    },
    [Symbol.dispose]: () => hash[Symbol.dispose](),
  };
}
