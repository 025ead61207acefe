import { laneOf, toCodes } from './codes.ts';
import { bitsOfF32, type FloatType, f32OfBits } from './floats.ts';
import type { Scheme } from './schemes.ts';

/**
 * The codes of all bfloat16 numbers around a divisor's exponent, with a mantissa as the divisor has it: a quotient's mantissa depends on both mantissas
 * alone, so a few tables hold the answer to every division of a model. Index: how far a number's bits without the sign lie above `base`; negative
 * numbers are `span` + 1 further on. The last of each half is zero itself.
 */
export interface Table {
  codes: Uint8Array;
  span: number;
}

/** The exponents (of weight / divisor) that tables cover: all below the first has the code of zero. */
function exponents(scheme: Scheme): [first: number, last: number] {
  if (scheme.code === 'e4m3') return [-11, 9];
  if (scheme.code === 'int8') return [-6, 8];
  return scheme.symmetric ? [-6, 4] : [-3, 5];
}

/** Tables of one scheme, made as they are needed. */
export class Tables {
  readonly span: number;
  readonly #scheme: Scheme;
  readonly #round: FloatType | undefined;
  readonly #first: number;
  readonly #tables = new Map<number, Table>();

  constructor(scheme: Scheme, round: FloatType | undefined) {
    const [first, last] = exponents(scheme);
    this.#scheme = scheme;
    this.#round = round;
    this.#first = first;
    this.span = (last - first + 1) * 128;
  }

  /** Where the table of a divisor begins among the bits of bfloat16 sizes; 0 or less: outside of what tables can do. */
  baseFor(divisor: number): number {
    const exponent = bitsOfF32(divisor) >> 23;
    // From 2 on the quotient of the smallest numbers would underflow, which is not the code of a small number in every arithmetic.
    return exponent >= 128 ? 0 : (exponent + this.#first) * 128;
  }

  /** The table for divisors with this one's mantissa. */
  tableFor(divisor: number, zero: number): Table {
    const mantissa = bitsOfF32(divisor) & 0x7fffff;
    const key = mantissa * 512 + zero;
    const known = this.#tables.get(key);
    if (known) return known;
    const table = this.#make(f32OfBits(0x3f800000 | mantissa), zero);
    this.#tables.set(key, table);
    return table;
  }

  /** Forgets all tables: other divisors come now. */
  clear(): void {
    this.#tables.clear();
  }

  #make(divisor: number, zero: number): Table {
    const half = this.span + 1;
    const lane = laneOf(2 * half);
    for (let i = 0; i < this.span; i += 1) {
      const size = f32OfBits((((127 + this.#first) << 7) + i) << 16);
      lane.numbers[i] = size;
      lane.numbers[half + i] = -size;
    }
    lane.numbers[2 * half - 1] = -0;
    const codes = new Uint8Array(2 * half);
    toCodes(this.#scheme, lane, 2 * half, divisor, zero, this.#round, codes);
    return { codes, span: this.span };
  }
}

/** Codes of `count` bfloat16 numbers by table, one a byte. Not for e2m1, where the code of a small number and of zero may differ. */
export function lookUpBytes(raw: Int16Array, from: number, count: number, table: Table, base: number, into: Uint8Array, to: number): void {
  const { codes } = table;
  const half = table.span + 1;
  for (let i = 0; i < count; i += 1) {
    const bits = raw[from + i]!;
    let at = (bits & 0x7fff) - base;
    if (at < 0) at = 0;
    into[to + i] = codes[at + (half & (bits >> 31))]!;
  }
}

/** Codes of `count` bfloat16 numbers by table, two a byte, the first in the low half. */
export function lookUpHalves(raw: Int16Array, from: number, count: number, table: Table, base: number, into: Uint8Array, to: number): void {
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
  if (count & 1) lookUpBytes(raw, end, 1, table, base, into, write);
}
