import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { constants, createZstdCompress, type ZstdCompress } from 'node:zlib';
import { StepError } from '../../lib/errors.ts';
import { feedFile, Verifier } from '../../lib/integrity.ts';
import { tarEnd, tarHeader, tarPadding, tarSize } from '../../lib/tar.ts';

/** A file of an archive: on the disk, or in memory. */
export interface Member {
  /** In the archive. */
  path: string;
  /** Bytes. */
  size: number;
  sha256: string;
  from: string | Buffer;
}

/** How far an archive is written: so many frames, with so many bytes and that digest (bare hex). */
export interface Written {
  frames: number;
  size: number;
  sha256: string;
}

const pieceBytes = 1024 ** 2;
/** A frame ends with the member that fills it: small files are compressed together, and a killed run goes on behind the last one. */
const frameBytes = 64 * 1024 ** 2;

/** Members that share a zstd frame, in their order. It depends on their sizes alone. */
export function framesOf(members: readonly Member[]): Member[][] {
  const frames: Member[][] = [];
  let left = 0;
  for (const member of members) {
    if (left <= 0) {
      frames.push([]);
      left = frameBytes;
    }
    frames.at(-1)?.push(member);
    left -= tarSize(member.path, member.size);
  }
  return frames;
}

/**
 * A tar.zst that is written from its beginning, hashed on the way. Its frames are whole zstd frames with a checksum each: readers take them as one stream
 * (RFC 8878, section 3).
 */
export class ArchiveFile {
  readonly #file: FileHandle;
  readonly #hash: Hash;
  #size: number;

  private constructor(file: FileHandle, hash: Hash, size: number) {
    this.#file = file;
    this.#hash = hash;
    this.#size = size;
  }

  /** Opens the file at what is written of it already; undefined when its bytes are not those any more. */
  static async goOn(path: string, { size, sha256 }: Written, signal: AbortSignal): Promise<ArchiveFile | undefined> {
    const hash = createHash('sha256');
    await feedFile(path, hash, signal, size).catch((error: NodeJS.ErrnoException) => {
      signal.throwIfAborted();
      // Not there, or a link, which is not followed.
      if (error.code !== 'ENOENT' && error.code !== 'ELOOP') throw error;
    });
    if (hash.copy().digest('hex') !== sha256) return undefined;
    const file = await open(path, 'a');
    await file.truncate(size);
    return new ArchiveFile(file, hash, size);
  }

  /** Begins a file; an old one at that path goes. */
  static async create(path: string): Promise<ArchiveFile> {
    // What lies there may be a link: it goes, and nothing is written through it.
    await rm(path, { force: true });
    return new ArchiveFile(await open(path, 'wx'), createHash('sha256'), 0);
  }

  /**
   * Adds a frame with those members, the archive's end behind the last. All is on the disk when it returns. Throws `integrity` when a member's bytes are
   * not what it says.
   */
  async add(members: readonly Member[], isLast: boolean, signal: AbortSignal, onBytes: (bytes: number) => void): Promise<void> {
    const params = { [constants.ZSTD_c_compressionLevel]: 3, [constants.ZSTD_c_checksumFlag]: 1 };
    const zstd = createZstdCompress({ chunkSize: pieceBytes, params });
    const output = this.#take(zstd);
    // Whoever feeds hears of a failure of the disk: nothing else waits for it then.
    output.catch(() => {});
    const feed = (bytes: Uint8Array) => Promise.race([written(zstd, bytes), output]);
    try {
      for (const member of members) {
        await feed(tarHeader(member.path, member.size));
        await feedMember(member, feed, signal, onBytes);
        await feed(tarPadding(member.size));
      }
      if (isLast) await feed(tarEnd());
      zstd.end();
      await output;
      await this.#file.sync();
    } finally {
      zstd.destroy();
      await output.catch(() => {});
    }
  }

  /** What is written up to here. */
  soFar(frames: number): Written {
    return { frames, size: this.#size, sha256: this.#hash.copy().digest('hex') };
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  async #take(zstd: ZstdCompress): Promise<void> {
    for await (const chunk of zstd as AsyncIterable<Buffer>) {
      this.#hash.update(chunk);
      await this.#file.writeFile(chunk);
      this.#size += chunk.length;
    }
  }
}

/** Waits until the bytes were taken, and may change. */
async function written(zstd: ZstdCompress, bytes: Uint8Array): Promise<void> {
  if (bytes.length === 0) return;
  await new Promise<void>((resolve, reject) => zstd.write(bytes, (error) => (error ? reject(error) : resolve())));
}

/** Feeds a member's bytes and holds them against its digest: the next piece is read and hashed while one is compressed. */
async function feedMember(
  { path, size, sha256, from }: Member,
  feed: (bytes: Uint8Array) => Promise<void>,
  signal: AbortSignal,
  onBytes: (bytes: number) => void,
): Promise<void> {
  if (typeof from !== 'string') return await feed(from);
  await using file = await open(from, 'r');
  const { size: there } = await file.stat();
  if (there !== size) throw new StepError('integrity', `failed to verify ${path}: size is ${there}, expected ${size}`);
  const verifier = new Verifier({ path, size, sha256 });
  const buffers = [Buffer.allocUnsafeSlow(pieceBytes), Buffer.allocUnsafeSlow(pieceBytes)] as const;
  let feeding = Promise.resolve();
  try {
    for (let [position, index] = [0, 0]; position < size; index = 1 - index) {
      signal.throwIfAborted();
      const buffer = buffers[index] as Buffer;
      const { bytesRead } = await file.read(buffer, 0, Math.min(pieceBytes, size - position), position);
      if (bytesRead === 0) break;
      const piece = buffer.subarray(0, bytesRead);
      verifier.update(piece);
      await feeding;
      feeding = feed(piece);
      feeding.catch(() => {});
      position += bytesRead;
      onBytes(bytesRead);
    }
  } finally {
    await feeding;
  }
  verifier.finish();
}
