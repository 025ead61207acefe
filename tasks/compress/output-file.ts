import { createHash, type Hash } from 'node:crypto';
import { write } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { readFully } from '../../lib/safetensors/header.ts';

const pieceBytes = 1024 ** 2;
/** What comes before its turn is kept up to so many bytes, and read again from the disk beyond them. */
const keptBytes = 8 * 1024 ** 2;
/** A disk that is slower than the source must not fill the memory. */
const writingBytes = 16 * 1024 ** 2;

/**
 * How much is written at once. A kernel with large folios takes up to 2 MiB of memory in one piece for a larger write; in a virtual machine that gives free
 * memory back to its host (free page reporting works on such pieces) each must be fetched again, which took five times the CPU of all else in a write
 * (Linux 6.18, ext4: 1.0 s for 617 MB by 2 MiB, 0.16 s by 256 KiB; 0.11 s by 2 MiB where the memory had just been used).
 */
const onceBytes = 256 * 1024;

/**
 * A file that is written in any order and hashed in its own, with no second read of it: bytes that come in order are hashed as they are, the few that
 * come before their turn (scales stand behind their weights, and come with them) are kept until then, and written together.
 */
export class OutputFile {
  readonly #file: FileHandle;
  readonly #path: string;
  readonly #hash: Hash = createHash('sha256');
  /** Up to here all is hashed. */
  #hashed = 0;
  /** What was written ahead of that, by its start: the bytes, or how many. */
  readonly #ahead = new Map<number, Uint8Array | number>();
  #kept = 0;
  readonly #writing = new Set<Promise<void>>();
  #writingBytes = 0;
  #failure: unknown;

  private constructor(file: FileHandle, path: string) {
    this.#file = file;
    this.#path = path;
  }

  /** Begins a file of that many bytes; an old one at that path goes. */
  static async create(path: string, size: number): Promise<OutputFile> {
    // What lies there may be a link: it goes, and nothing is written through it.
    await rm(path, { force: true });
    const file = await open(path, 'wx+');
    await file.truncate(size);
    return new OutputFile(file, path);
  }

  /** Writes bytes, which must not change until `release` is called. Throws what an earlier write met. */
  async write(offset: number, bytes: Uint8Array, release?: () => void): Promise<void> {
    const early = offset !== this.#hashed && bytes.length > 0;
    if (early && this.#kept + bytes.length <= keptBytes) {
      this.#kept += bytes.length;
      this.#ahead.set(offset, Uint8Array.from(bytes));
      release?.();
      return;
    }
    if (early) this.#ahead.set(offset, bytes.length);
    else this.#hashNext(bytes);
    await this.#begin(offset, bytes, release);
    if (this.#ahead.has(this.#hashed)) await this.#catchUp();
  }

  /** Waits for all writes, flushes them to the disk and closes. Returns the sha256, bare hex. */
  async finish(): Promise<string> {
    await this.#settle();
    await this.#file.sync();
    await this.#file.close();
    return this.#hash.digest('hex');
  }

  /** Closes without a word: for a file that comes to nothing. */
  async abandon(): Promise<void> {
    await Promise.all(this.#writing);
    await this.#file.close().catch(() => {});
  }

  async #settle(): Promise<void> {
    await Promise.all(this.#writing);
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Begins to write, as soon as the disk has kept up. */
  async #begin(offset: number, bytes: Uint8Array, release?: () => void): Promise<void> {
    while (this.#writingBytes > writingBytes) await Promise.race(this.#writing);
    if (this.#failure !== undefined) throw this.#failure;
    this.#writingBytes += bytes.length;
    const writing = this.#put(offset, bytes)
      .catch((error: unknown) => {
        this.#failure ??= error;
      })
      .finally(() => {
        this.#writing.delete(writing);
        this.#writingBytes -= bytes.length;
        release?.();
      });
    this.#writing.add(writing);
  }

  #hashNext(bytes: Uint8Array): void {
    this.#hash.update(bytes);
    this.#hashed += bytes.length;
  }

  #put(offset: number, bytes: Uint8Array): Promise<void> {
    const { fd } = this.#file;
    return new Promise((resolve, reject) => {
      const from = (done: number) => {
        if (done === bytes.length) return resolve();
        const length = Math.min(bytes.length - done, onceBytes);
        // Not the handle's own way: so many promises would cost what the small writes save.
        write(fd, bytes, done, length, offset + done, (error, written) => (error ? reject(error) : from(done + written)));
      };
      from(0);
    });
  }

  /** Takes what came before its turn and lies next: what was kept is written only now, all of it at once. */
  async #catchUp(): Promise<void> {
    const kept: Uint8Array[] = [];
    let end = this.#hashed;
    for (let next = this.#ahead.get(end); next instanceof Uint8Array; next = this.#ahead.get(end)) {
      this.#ahead.delete(end);
      kept.push(next);
      end += next.length;
    }
    if (kept.length > 0) {
      const bytes = Buffer.concat(kept);
      const offset = this.#hashed;
      this.#hashNext(bytes);
      this.#kept -= bytes.length;
      await this.#begin(offset, bytes);
    }
    const length = this.#ahead.get(this.#hashed);
    if (typeof length === 'number') {
      this.#ahead.delete(this.#hashed);
      await this.#hashAgain(length);
    }
    if (this.#ahead.has(this.#hashed)) await this.#catchUp();
  }

  async #hashAgain(length: number): Promise<void> {
    await this.#settle();
    const end = this.#hashed + length;
    const buffer = Buffer.allocUnsafeSlow(Math.min(pieceBytes, length));
    while (this.#hashed < end) {
      const piece = buffer.subarray(0, Math.min(buffer.length, end - this.#hashed));
      await readFully(this.#file, piece, this.#hashed, this.#path);
      this.#hash.update(piece);
      this.#hashed += piece.length;
    }
  }
}
