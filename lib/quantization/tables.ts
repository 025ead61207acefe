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
  /**
   * The same codes where a number's bits with the sign, less `base`, plus `wideStart`, find them: without a comparison. None where it would take too much
   * memory (a table for each zero point) or where zero has a code of its own (e2m1).
   */
  wide: Uint8Array | undefined;
}

/** All bases are below. */
export const wideStart = 128 * 128;
/** How far the bits of a number and of its negative lie apart. */
const signBit = 0x8000;

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
    return { codes, span: this.span, wide: this.#widen(codes) };
  }

  #widen(codes: Uint8Array): Uint8Array | undefined {
    if (!this.#scheme.symmetric || this.#scheme.code === 'e2m1') return undefined;
    const { span } = this;
    const wide = new Uint8Array(wideStart + signBit + span);
    for (const [from, to] of [
      [0, 0],
      [span + 1, signBit],
    ] as const) {
      wide.fill(codes[from]!, to, to + wideStart);
      wide.set(codes.subarray(from, from + span), to + wideStart);
    }
    return wide;
  }
}
