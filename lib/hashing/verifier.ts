import { compareFound, type Expected, Verifier } from '../integrity.ts';
import { hashThread, worthAThread } from './thread.ts';

/** A Verifier whose work may be another thread's. */
export interface AsyncVerifier extends Disposable {
  /** In order, each after the one before is settled. */
  update(bytes: Uint8Array): void | Promise<void>;
  /** Throws as Verifier does. */
  finish(): Promise<string>;
}

/** Hashes a file as its bytes pass: in a thread where that pays. A git sha1, which few large files have, stays here. */
export function verifierFor(file: Expected): AsyncVerifier {
  if (file.gitSha1 !== undefined || file.size < worthAThread || hashThread === undefined) {
    const verifier = new Verifier(file);
    return { update: (bytes) => verifier.update(bytes), finish: async () => verifier.finish(), [Symbol.dispose]() {} };
  }
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
