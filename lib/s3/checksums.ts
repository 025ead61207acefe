import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { crc32Of } from '../hashing/crc32.ts';
import type { StoredPart } from '../store.ts';

/** `crc32`: sent as a header, computed natively, verified by the store. `sha256`: the signed digest of the payload protects it. */
export type ChecksumMode = 'crc32' | 'sha256';

/** The crc32 of bytes as S3 writes it: big-endian, base64. */
export function crc32Base64(bytes: Uint8Array): string {
  return written(crc32(bytes));
}

/** The same of a body, whose bytes are not changed meanwhile, and whose crc32 may be known. */
export async function bodyCrc32Base64(bytes: Uint8Array, known?: number): Promise<string> {
  return written(known ?? (await crc32Of(bytes)));
}

function written(crc: number): string {
  const value = Buffer.alloc(4);
  value.writeUInt32BE(crc);
  return value.toString('base64');
}

/** True when a listed part surely has these bytes: by its crc32, or by its ETag where that is an MD5 (no KMS encryption). */
export function partHasBytes(part: StoredPart, bytes: Uint8Array): boolean {
  if (part.size !== bytes.length) return false;
  if (part.checksum?.startsWith('crc32:')) return part.checksum === `crc32:${crc32Base64(bytes)}`;
  return part.etag === createHash('md5').update(bytes).digest('hex');
}
