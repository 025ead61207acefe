import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';

/** The checksum algorithms of S3, by the end of their header: `x-amz-checksum-<algorithm>`. */
export const algorithms = ['crc32', 'crc32c', 'crc64nvme', 'sha1', 'sha256'] as const;
export type Algorithm = (typeof algorithms)[number];
export type ChecksumType = 'COMPOSITE' | 'FULL_OBJECT';
/** Digests in base64, as the headers carry them. */
export type Checksums = Partial<Record<Algorithm, string>>;

/** Digest lengths in bytes. */
export const digestBytes: Record<Algorithm, number> = { crc32: 4, crc32c: 4, crc64nvme: 8, sha1: 20, sha256: 32 };

/** Reflected polynomials. */
const polynomials: Partial<Record<Algorithm, bigint>> = { crc32: 0xedb88320n, crc32c: 0x82f63b78n, crc64nvme: 0x9a6c9329ac4bc9b5n };

/** True for those whose digest of a whole follows from the digests of its parts. */
export function isCrc(algorithm: Algorithm): boolean {
  return polynomials[algorithm] !== undefined;
}

export interface Hasher {
  update(chunk: Uint8Array): unknown;
  /** In base64. */
  digest(): string;
}

/** Hashes a body as it comes by. */
export function createHasher(algorithm: Algorithm): Hasher {
  if (algorithm === 'crc32') {
    let value = 0;
    return { update: (chunk) => (value = crc32(chunk, value)), digest: () => base64(BigInt(value), 4) };
  }
  if (algorithm === 'crc32c' || algorithm === 'crc64nvme') return new TableCrc(algorithm);
  const hash = createHash(algorithm);
  return { update: (chunk) => hash.update(chunk), digest: () => hash.digest('base64') };
}

/** The checksum of a multipart object made of its parts' digests: a digest of digests, with the number of parts behind it. */
export function compositeChecksum(algorithm: Algorithm, parts: string[]): string {
  const hasher = createHasher(algorithm);
  for (const digest of parts) hasher.update(Buffer.from(digest, 'base64'));
  return `${hasher.digest()}-${parts.length}`;
}

/** The CRC of parts one behind the other, from their CRCs. */
export function combineCrcs(algorithm: Algorithm, parts: { digest: string; size: number }[]): string {
  const bytes = digestBytes[algorithm];
  let whole = 0n;
  parts.forEach(({ digest, size }, index) => {
    const crc = BigInt(`0x${Buffer.from(digest, 'base64').toString('hex')}`);
    whole = index === 0 ? crc : multiply(algorithm, shiftBy(algorithm, size), whole) ^ crc;
  });
  return base64(whole, bytes);
}

function base64(value: bigint, bytes: number): string {
  return Buffer.from(value.toString(16).padStart(bytes * 2, '0'), 'hex').toString('base64');
}

/** The product of two polynomials modulo the algorithm's, all reflected: the highest bit is x^0. */
function multiply(algorithm: Algorithm, a: bigint, b: bigint): bigint {
  const polynomial = polynomials[algorithm] ?? 0n;
  let product = 0n;
  for (let bit = 1n << BigInt(digestBytes[algorithm] * 8 - 1); bit > 0n; bit >>= 1n) {
    if (a & bit) product ^= b;
    b = b & 1n ? (b >> 1n) ^ polynomial : b >> 1n;
  }
  return product;
}

const shifts = new Map<string, bigint>();

/** x^(8·bytes) modulo the polynomial: what a CRC is multiplied by when that many bytes follow. */
function shiftBy(algorithm: Algorithm, bytes: number): bigint {
  const name = `${algorithm} ${bytes}`;
  let shift = shifts.get(name);
  if (shift === undefined) {
    const top = BigInt(digestBytes[algorithm] * 8 - 1);
    shift = 1n << top;
    let power = 1n << (top - 1n);
    for (let left = BigInt(bytes) * 8n; left > 0n; left >>= 1n) {
      if (left & 1n) shift = multiply(algorithm, power, shift);
      power = multiply(algorithm, power, power);
    }
    shifts.set(name, shift);
  }
  return shift;
}

/** Eight tables of 256 entries: what a byte leaves in the register when 0 to 7 bytes follow it; low and high halves. */
interface Tables {
  low: Uint32Array;
  high: Uint32Array;
}

const tables = new Map<Algorithm, Tables>();

function tablesOf(algorithm: Algorithm): Tables {
  let made = tables.get(algorithm);
  if (!made) {
    const polynomial = polynomials[algorithm] ?? 0n;
    made = { low: new Uint32Array(2048), high: new Uint32Array(2048) };
    for (let byte = 0; byte < 256; byte += 1) {
      let value = BigInt(byte);
      for (let distance = 0; distance < 8; distance += 1) {
        for (let bit = 0; bit < 8; bit += 1) value = value & 1n ? (value >> 1n) ^ polynomial : value >> 1n;
        made.low[distance * 256 + byte] = Number(value & 0xffffffffn);
        made.high[distance * 256 + byte] = Number(value >> 32n);
      }
    }
    tables.set(algorithm, made);
  }
  return made;
}

/** The CRCs that Node has no native code for, eight bytes a step. */
class TableCrc implements Hasher {
  readonly #bytes: number;
  readonly #tables: Tables;
  #low = 0xffffffff;
  #high: number;

  constructor(algorithm: Algorithm) {
    this.#bytes = digestBytes[algorithm];
    this.#tables = tablesOf(algorithm);
    this.#high = this.#bytes === 8 ? 0xffffffff : 0;
  }

  update(chunk: Uint8Array): void {
    const { low: tableLow, high: tableHigh } = this.#tables;
    let low = this.#low;
    let high = this.#high;
    let at = 0;
    for (const last = chunk.length - 8; at <= last; at += 8) {
      low ^= chunk[at]! | (chunk[at + 1]! << 8) | (chunk[at + 2]! << 16) | (chunk[at + 3]! << 24);
      high ^= chunk[at + 4]! | (chunk[at + 5]! << 8) | (chunk[at + 6]! << 16) | (chunk[at + 7]! << 24);
      const a = 1792 + (low & 255);
      const b = 1536 + ((low >>> 8) & 255);
      const c = 1280 + ((low >>> 16) & 255);
      const d = 1024 + (low >>> 24);
      const e = 768 + (high & 255);
      const f = 512 + ((high >>> 8) & 255);
      const g = 256 + ((high >>> 16) & 255);
      const h = high >>> 24;
      low = tableLow[a]! ^ tableLow[b]! ^ tableLow[c]! ^ tableLow[d]! ^ tableLow[e]! ^ tableLow[f]! ^ tableLow[g]! ^ tableLow[h]!;
      high = tableHigh[a]! ^ tableHigh[b]! ^ tableHigh[c]! ^ tableHigh[d]! ^ tableHigh[e]! ^ tableHigh[f]! ^ tableHigh[g]! ^ tableHigh[h]!;
    }
    for (; at < chunk.length; at += 1) {
      const index = (low ^ chunk[at]!) & 255;
      low = ((low >>> 8) | (high << 24)) ^ tableLow[index]!;
      high = (high >>> 8) ^ tableHigh[index]!;
    }
    this.#low = low;
    this.#high = high;
  }

  digest(): string {
    const out = Buffer.alloc(8);
    out.writeUInt32BE(~this.#high >>> 0, 0);
    out.writeUInt32BE(~this.#low >>> 0, 4);
    return out.subarray(8 - this.#bytes).toString('base64');
  }
}
