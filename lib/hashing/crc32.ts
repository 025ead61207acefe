import { crc32 } from 'node:zlib';
import { hashThread, isShared, worthAThread } from './thread.ts';

/** The crc32 (IEEE 802.3) of bytes that are not changed meanwhile: of many, in shared memory, by the thread. */
export async function crc32Of(bytes: Uint8Array): Promise<number> {
  const there = bytes.length >= worthAThread && isShared(bytes);
  return there && hashThread ? await hashThread.crc32(bytes) : crc32(bytes);
}
