import { createHash, type Hash } from 'node:crypto';
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { StepError } from './errors.ts';

/**
 * What a file's bytes must be. The Hub gives sha256 for LFS and Xet files, and the git blob's sha1 for small ones. A file that is made while it is sent
 * has neither beforehand, but a digest of all that its bytes follow from.
 */
export interface Expected {
  path: string;
  /** Bytes. */
  size: number;
  sha256?: string | undefined;
  gitSha1?: string | undefined;
  /** Equal recipes give equal bytes. */
  recipe?: string | undefined;
}

/** Hashes a file's bytes as they pass, in order, and compares at the end. */
export class Verifier {
  readonly #expected: Expected;
  readonly #sha256: Hash = createHash('sha256');
  readonly #gitSha1: Hash | undefined;
  #size = 0;

  constructor(expected: Expected) {
    this.#expected = expected;
    // A git blob's name is the sha1 of "blob <size>\0" and its bytes (git-hash-object(1)).
    this.#gitSha1 = expected.gitSha1 === undefined ? undefined : createHash('sha1').update(`blob ${expected.size}\0`);
  }

  update(bytes: Uint8Array): void {
    this.#size += bytes.length;
    this.#sha256.update(bytes);
    this.#gitSha1?.update(bytes);
  }

  /** The sha256 (bare hex). Throws `integrity` as compareFound does. */
  finish(): string {
    const sha256 = this.#sha256.digest('hex');
    compareFound(this.#expected, { size: this.#size, sha256, gitSha1: this.#gitSha1?.digest('hex') });
    return sha256;
  }
}

/** Throws `integrity` with expected and found when size or a digest differ. */
export function compareFound(expected: Expected, found: Pick<Expected, 'size' | 'sha256' | 'gitSha1'>): void {
  const compare = (what: string, want: string | number | undefined, got: string | number | undefined) => {
    if (want === undefined || want === got) return;
    throw new StepError('integrity', `failed to verify ${expected.path}: ${what} is ${got}, expected ${want}`, {
      hint: 'run it again; if it stays so, the source serves wrong bytes',
    });
  };
  compare('size', expected.size, found.size);
  compare('sha256', expected.sha256, found.sha256);
  compare('git sha1', expected.gitSha1, found.gitSha1);
}

/** sha256 of bytes in memory, bare hex. */
export function sha256Of(bytes: Uint8Array | string): string {
  return createHash('sha256').update(bytes).digest('hex');
}

const pieceBytes = 1024 ** 2;

/**
 * Feeds the first `length` bytes of a file (all of it by default) to a verifier: the next piece is read while one is hashed.
 * Symlinks are not followed. Throws the system's error, or the signal's reason.
 */
export async function feedFile(
  path: string,
  verifier: { update(bytes: Uint8Array): unknown },
  signal: AbortSignal,
  length = Number.POSITIVE_INFINITY,
): Promise<void> {
  if (length <= 0) return;
  await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  // Shared memory: a thread that hashes takes no copy of it.
  const buffers = [0, 1].map(() => Buffer.from(new SharedArrayBuffer(pieceBytes)));
  const read = async (index: number, position: number) => {
    const { bytesRead } = await file.read(buffers[index % 2] as Buffer, 0, Math.min(pieceBytes, length - position), position);
    return bytesRead;
  };
  let position = 0;
  let coming = read(0, 0);
  for (let index = 0; ; index += 1) {
    const bytes = await coming;
    if (bytes === 0) return;
    position += bytes;
    coming = position < length ? read(index + 1, position) : Promise.resolve(0);
    try {
      signal.throwIfAborted();
      await verifier.update((buffers[index % 2] as Buffer).subarray(0, bytes));
    } catch (error) {
      // The file is closed only when nothing reads it any more.
      await coming.catch(() => {});
      throw error;
    }
  }
}
