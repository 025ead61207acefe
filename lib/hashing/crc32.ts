import { crc32 } from 'node:zlib';
import { hashThread } from './thread.ts';

/** Fewer bytes are done sooner than they are handed over. */
const worthAThread = 1024 ** 2;

/** The crc32 (IEEE 802.3) of bytes that are not changed meanwhile: of many, in shared memory, by the thread. */
export async function crc32Of(bytes: Uint8Array): Promise<number> {
  const there = bytes.length >= worthAThread && bytes.buffer instanceof SharedArrayBuffer;
  return there && hashThread ? await hashThread.crc32(bytes) : crc32(bytes);
}
