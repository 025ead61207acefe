import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { readFully } from '../../lib/safetensors/header.ts';

const pieceBytes = 1024 ** 2;
/** What comes before its turn is kept up to so many bytes, and read again from the disk beyond them. */
const keptBytes = 8 * 1024 ** 2;
/** A disk that is slower than the source must not fill the memory. */
const writingBytes = 16 * 1024 ** 2;

/**
 * A file that is written in any order and hashed in its own, with no second read of it: bytes that come in order are hashed as they are, the few that
 * come before their turn (scales stand behind their weights, and come with them) are kept until then.
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
    if (bytes.length === 0) return;
    if (offset === this.#hashed) {
      this.#hash.update(bytes);
      this.#hashed += bytes.length;
    } else {
      const keep = this.#kept + bytes.length <= keptBytes;
      if (keep) this.#kept += bytes.length;
      this.#ahead.set(offset, keep ? Uint8Array.from(bytes) : bytes.length);
    }
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

  async #put(offset: number, bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await this.#file.write(bytes, done, bytes.length - done, offset + done);
      done += bytesWritten;
    }
  }

  async #catchUp(): Promise<void> {
    for (let next = this.#ahead.get(this.#hashed); next !== undefined; next = this.#ahead.get(this.#hashed)) {
      this.#ahead.delete(this.#hashed);
      if (typeof next === 'number') await this.#hashAgain(next);
      else {
        this.#hash.update(next);
        this.#hashed += next.length;
        this.#kept -= next.length;
      }
    }
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
