import { codeValues, type Lane, laneOf, toCodes } from './codes.ts';
import { addErrors, type ErrorSums } from './error-sums.ts';
import { decode, type FloatType, largest, type Raw, wordsOf } from './floats.ts';
import { bitsOf, type Scheme } from './schemes.ts';

/**
 * Some weights of whole rows, on which the arithmetic is done group by group: measured, then encoded by the divisors that were put here. Groups count from
 * the first of what was loaded.
 */
export interface Strip {
  /**
   * What `measure` found, as integers (`numberOf` gives their values; NaN counts as larger than infinity): for each group the largest size, or with zero
   * points two, the largest size of what is negative and the largest of what is not.
   */
  readonly found: Int32Array;
  /** One for each group, and its zero point, for `encode`. */
  readonly divisors: Float32Array;
  readonly zeros: Float32Array;
  /** Makes room; what was here is lost. */
  reserve(weights: number, groups: number): void;
  /** Takes `count` weights from `from` on. */
  load(weights: Raw, from: number, count: number): void;
  /** Measures `groups` groups (0 too), the first of them number `group`, of `size` weights each, which begin at weight `from`. */
  measure(from: number, groups: number, size: number, group: number): void;
  /** Writes their codes, as they are stored, from byte `to` on; adds to `sums` when given. */
  encode(from: number, groups: number, size: number, group: number, into: Uint8Array, to: number, sums?: ErrorSums): void;
}

/** One weight after the other: for all types and sizes of groups. */
export class ScalarStrip implements Strip {
  found = new Int32Array(0);
  divisors = new Float32Array(0);
  zeros = new Float32Array(0);
  readonly #scheme: Scheme;
  readonly #type: FloatType;
  readonly #round: FloatType | undefined;
  readonly #halves: boolean;
  readonly #values: Float32Array;
  #weights: Raw = new Int16Array(0);
  #words: Int32Array = new Int32Array(0);
  #start = 0;
  #lane: Lane = laneOf(0);
  #codes = new Uint8Array(0);

  constructor(scheme: Scheme, type: FloatType, round: FloatType | undefined) {
    this.#scheme = scheme;
    this.#type = type;
    this.#round = round;
    this.#halves = bitsOf(scheme) === 4;
    this.#values = codeValues(scheme);
  }

  reserve(weights: number, groups: number): void {
    if (groups > this.divisors.length) {
      this.found = new Int32Array(2 * groups);
      this.divisors = new Float32Array(groups);
      this.zeros = new Float32Array(groups);
    }
    if (weights >= this.#codes.length) {
      this.#lane = laneOf(weights);
      // One more, for the half that fills the last byte of a group.
      this.#codes = new Uint8Array(weights + 1);
    }
  }

  load(weights: Raw, from: number): void {
    this.#weights = weights;
    this.#words = wordsOf(weights);
    this.#start = from;
  }

  measure(from: number, groups: number, size: number, group: number): void {
    for (let i = 0; i < groups; i += 1) {
      const start = this.#start + from + i * size;
      if (this.#scheme.symmetric) this.found[group + i] = largest(this.#weights, this.#words, start, size, this.#type);
      else this.#extremes(start, size, 2 * (group + i));
    }
  }

  encode(from: number, groups: number, size: number, group: number, into: Uint8Array, to: number, sums?: ErrorSums): void {
    const { numbers, bits } = this.#lane;
    let write = to;
    for (let i = 0; i < groups; i += 1) {
      const [start, divisor, zero] = [this.#start + from + i * size, this.divisors[group + i]!, this.zeros[group + i]!];
      decode(this.#weights, start, size, this.#type, numbers, bits);
      toCodes(this.#scheme, this.#lane, size, divisor, zero, this.#round, this.#codes);
      write = this.#store(size, into, write);
      if (!sums) continue;
      decode(this.#weights, start, size, this.#type, numbers, bits);
      addErrors(numbers, size, this.#codes, this.#values, { divisor, zero }, sums);
    }
  }

  #store(count: number, into: Uint8Array, to: number): number {
    const codes = this.#codes;
    let write = to;
    if (this.#halves) {
      if (count & 1) codes[count] = 0;
      for (let i = 0; i < count; i += 2) into[write++] = codes[i]! | (codes[i + 1]! << 4);
    } else for (let i = 0; i < count; i += 1) into[write++] = codes[i]!;
    return write;
  }

  #extremes(from: number, count: number, at: number): void {
    const weights = this.#weights;
    // Flips the sign and, where there are any, the bits that stand before it: negative numbers become their sizes, and all others negative.
    const flip = this.#type === 'F32' ? -0x80000000 : -0x8000;
    let [low, high] = [0, 0];
    for (let i = from; i < from + count; i += 1) {
      const bits = weights[i]!;
      if (bits > high) high = bits;
      if ((bits ^ flip) > low) low = bits ^ flip;
    }
    this.found[at] = low;
    this.found[at + 1] = high;
  }
}
