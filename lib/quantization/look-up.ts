import { type Table, wideStart } from './tables.ts';

/** Rows of weights, here bfloat16, and the bytes that their codes go to. */
export interface Strip<Weights = Int16Array> {
  raw: Weights;
  /** The same weights, two a word (`wordsOf`). */
  words: Int32Array;
  into: Uint8Array;
  /** The same bytes, four a word; undefined where they are not aligned to words. */
  intoWords: Int32Array | undefined;
}

/** Codes of `count` weights from `from` by table, one a byte from `to` on. Not for e2m1, where the code of a small number and of zero may differ. */
export function lookUpBytes(strip: Strip, from: number, count: number, table: Table, base: number, to: number): void {
  const done = bytesByWord(strip, from, count, table, base, to);
  bytesOneByOne(strip, from + done, count - done, table, base, to + done);
}

/** The same, two a byte, the first in the low half. */
export function lookUpHalves(strip: Strip, from: number, count: number, table: Table, base: number, to: number): void {
  const done = halvesByWord(strip, from, count, table, base, to);
  halvesByByte(strip, from + done, count - done, table, base, to + (done >> 1));
}

/** Fills whole words of four codes, where weights and codes are aligned and the table is wide: twice as fast. Returns how many it did. */
function bytesByWord({ words, intoWords }: Strip, from: number, count: number, { wide }: Table, base: number, to: number): number {
  if (!wide || !intoWords || from & 1 || to & 3) return 0;
  const done = count & ~3;
  const end = (from + done) >> 1;
  const off = wideStart - base;
  let write = to >> 2;
  for (let i = from >> 1; i < end; i += 2) {
    const a = words[i]!;
    const b = words[i + 1]!;
    intoWords[write++] =
      wide[(a & 0xffff) + off]! | (wide[(a >>> 16) + off]! << 8) | (wide[(b & 0xffff) + off]! << 16) | (wide[(b >>> 16) + off]! << 24);
  }
  return done;
}

/** The same with eight codes a word: four times as fast. */
function halvesByWord({ words, intoWords }: Strip, from: number, count: number, { wide }: Table, base: number, to: number): number {
  if (!wide || !intoWords || from & 1 || to & 3) return 0;
  const done = count & ~7;
  const end = (from + done) >> 1;
  const off = wideStart - base;
  let write = to >> 2;
  for (let i = from >> 1; i < end; i += 4) {
    const a = words[i]!;
    const b = words[i + 1]!;
    const c = words[i + 2]!;
    const d = words[i + 3]!;
    intoWords[write++] =
      wide[(a & 0xffff) + off]! |
      (wide[(a >>> 16) + off]! << 4) |
      (wide[(b & 0xffff) + off]! << 8) |
      (wide[(b >>> 16) + off]! << 12) |
      (wide[(c & 0xffff) + off]! << 16) |
      (wide[(c >>> 16) + off]! << 20) |
      (wide[(d & 0xffff) + off]! << 24) |
      (wide[(d >>> 16) + off]! << 28);
  }
  return done;
}

function bytesOneByOne({ raw, into }: Strip, from: number, count: number, { codes, span }: Table, base: number, to: number): void {
  const half = span + 1;
  for (let i = 0; i < count; i += 1) {
    const bits = raw[from + i]!;
    let at = (bits & 0x7fff) - base;
    if (at < 0) at = 0;
    into[to + i] = codes[at + (half & (bits >> 31))]!;
  }
}

function halvesByByte(strip: Strip, from: number, count: number, table: Table, base: number, to: number): void {
  const { raw, into } = strip;
  const { codes, span } = table;
  const half = span + 1;
  const end = from + (count & ~1);
  let write = to;
  for (let i = from; i < end; i += 2) {
    const [bits, next] = [raw[i]!, raw[i + 1]!];
    let at = (bits & 0x7fff) - base;
    if (at < 0) at = (bits & 0x7fff) === 0 ? span : 0;
    let then = (next & 0x7fff) - base;
    if (then < 0) then = (next & 0x7fff) === 0 ? span : 0;
    into[write++] = codes[at + (half & (bits >> 31))]! | (codes[then + (half & (next >> 31))]! << 4);
  }
  if (count & 1) bytesOneByOne(strip, end, 1, table, base, write);
}
