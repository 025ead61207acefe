import type { Transform } from 'node:stream';
import { createGunzip, createInflate, createZstdDecompress } from 'node:zlib';
import type { Bytes } from './bytes.ts';
import { BadArchive } from './zip.ts';

/** Bytes that are kept of what is unpacked. */
const maxKept = 64 * 1024 ** 2;
/** Bytes of packed data that are read for it. */
const maxRead = 16 * 1024 ** 2;
const windowBytes = 64 * 1024;
/** What becomes larger than that by unpacking is zeros, or made to fill a disk: text and code shrink to a twentieth at best. */
const maxRatio = 200;

const packings: readonly { name: string; magic: string; make?: () => Transform }[] = [
  { name: 'gzip', magic: '1f8b08', make: createGunzip },
  { name: 'zstd', magic: '28b52ffd', make: createZstdDecompress },
  ...['7801', '785e', '789c', '78da'].map((magic) => ({ name: 'zlib', magic, make: createInflate })),
  { name: 'bzip2', magic: '425a68' },
  { name: 'xz', magic: 'fd377a585a00' },
  { name: 'lzma', magic: '5d0000' },
  { name: 'lz4', magic: '04224d18' },
  { name: '7z', magic: '377abcaf271c' },
  { name: 'rar', magic: '526172211a07' },
];

export interface Unpacked {
  /** What it is packed by. */
  name: string;
  /** The first of it; undefined where this house cannot unpack it. */
  bytes?: Buffer;
  /** False when there is more. */
  whole: boolean;
}

/** What stands at the beginning of a compressed file, up to 64 MiB of it; undefined when `head`, its first bytes, are not those of one. Throws BadArchive for a bomb. */
export async function unpack(bytes: Bytes, head: Buffer): Promise<Unpacked | undefined> {
  const packing = packings.find(({ magic }) => head.toString('hex', 0, magic.length / 2) === magic);
  if (packing === undefined) return undefined;
  const { name, make } = packing;
  if (make === undefined) return { name, whole: false };
  const stream = make();
  const kept: Buffer[] = [];
  let size = 0;
  let broken = false;
  stream.on('data', (piece: Buffer) => {
    if (size < maxKept) kept.push(piece);
    size += piece.length;
  });
  // What cannot be unpacked on is unpacked by nobody: what stands before it counts.
  stream.on('error', () => {
    broken = true;
  });
  const ended = new Promise<void>((resolve) => stream.once('close', resolve));
  let at = 0;
  while (at < bytes.size && at < maxRead && size < maxKept && !broken) {
    const piece = await bytes.read(at, Math.min(windowBytes, bytes.size - at));
    at += piece.length;
    await new Promise<void>((resolve) => {
      stream.write(piece, () => resolve());
      stream.once('close', resolve);
    });
    if (size > maxKept && size > at * maxRatio) {
      stream.destroy();
      throw new BadArchive(`${at} of its bytes unpack to ${size}`);
    }
  }
  const whole = at >= bytes.size && size < maxKept;
  if (whole && !broken) stream.end();
  else stream.destroy();
  await ended;
  return size === 0 && broken ? undefined : { name, bytes: Buffer.concat(kept), whole };
}
