import { compareFound, type Expected, Verifier } from '../integrity.ts';
import { hashThread } from './thread.ts';

/** A Verifier whose work may be another thread's. */
export interface PartsVerifier extends Disposable {
  /** In order, each after the one before is settled. */
  update(bytes: Uint8Array): void | Promise<void>;
  /** Throws as Verifier does. */
  finish(): Promise<string>;
}

/** Hashes a large file as its parts pass: in a thread of its own where there is a core for it. A git sha1, which few large files have, stays here. */
export function partsVerifier(file: Expected): PartsVerifier {
  if (file.gitSha1 !== undefined || hashThread === undefined) return verifierHere(file);
  const hash = hashThread.begin();
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

/** The same in this thread: for what is soon hashed. */
export function verifierHere(file: Expected): PartsVerifier {
  const verifier = new Verifier(file);
  return { update: (bytes) => verifier.update(bytes), finish: async () => verifier.finish(), [Symbol.dispose]() {} };
}
