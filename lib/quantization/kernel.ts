import { codeValues, type Lane, laneOf, toCodes } from './codes.ts';
import { addErrorsOfBytes, addErrorsOfHalves, type ErrorSums } from './error-sums.ts';
import { decode, type FloatType, infinityBits, largest, numberOf, type Raw, rawOf, wordsOf } from './floats.ts';
import { lookUpBytes, lookUpHalves, type Strip } from './look-up.ts';
import { asymmetricScaleOf, type Scale, scaleOf } from './scales.ts';
import { bitsOf, type Scheme } from './schemes.ts';
import { type Table, Tables } from './tables.ts';

export type { ErrorSums };

/** `f32`: weight / scale as a float32, as the reference does on a GPU. `native`: rounded to the checkpoint's type, as it does on a CPU. */
export type Arithmetic = 'f32' | 'native';

/** Rows of one weight, whole and in order: `rowBlock` of them, a multiple, or the last of the tensor. */
export interface RowBlock {
  /** Little-endian, row by row. */
  bytes: Uint8Array;
  dtype: FloatType;
  rows: number;
  cols: number;
  arithmetic: Arithmetic;
  /** NVFP4 only: what `globalScaleOf` gave for the whole tensor. */
  globalScale?: number;
}

/** A weight that is no number, counted from the block's first row. */
export interface NotFinite {
  row: number;
  col: number;
  value: 'NaN' | 'Infinity' | '-Infinity' | 'numbers too far apart for a scale';
}

/**
 * Quantizes a block of rows into its part of each output that `outputsOf` lists with `perRow` > 0, in that order; each array must have room for
 * ceil(rows / perRow) * rowBytes bytes, all of which are written. Adds to `sums` when given. Returns where a weight is NaN or infinite, the rest of
 * the block undone then, or undefined.
 */
export function quantizeRows(scheme: Scheme, block: RowBlock, into: readonly Uint8Array[], sums?: ErrorSums): NotFinite | undefined {
  const key = `${scheme.id} ${block.dtype} ${block.arithmetic}`;
  let quantizer = quantizers.get(key);
  if (!quantizer) {
    quantizer = new Quantizer(scheme, block.dtype, block.arithmetic);
    quantizers.set(key, quantizer);
  }
  return quantizer.run(block, into, sums);
}

/** One for each scheme, type and arithmetic that this thread has met: they keep tables. */
const quantizers = new Map<string, Quantizer>();

/** The largest size among those weights; NaN or Infinity when one of them is. */
export function maxAbs(bytes: Uint8Array, dtype: FloatType): number {
  const raw = rawOf(bytes, dtype);
  return numberOf(dtype, largest(raw, wordsOf(raw), 0, raw.length, dtype));
}

/** A scale and the table for it, where there is one. */
interface Divisor extends Scale {
  table: Table | undefined;
  base: number;
}

class Quantizer {
  readonly #scheme: Scheme;
  readonly #type: FloatType;
  readonly #round: FloatType | undefined;
  readonly #tables: Tables | undefined;
  readonly #values: Float32Array;
  readonly #halves: boolean;
  readonly #scaleBytes: number;
  /** Divisors by the integer size of a group's largest weight, where integers are of 16 bits. */
  #known = new Array<Divisor | undefined>(0x8000);
  #globalScale = 1;
  #lane = laneOf(0);
  #codes = new Uint8Array(0);

  constructor(scheme: Scheme, type: FloatType, arithmetic: Arithmetic) {
    this.#scheme = scheme;
    this.#type = type;
    this.#round = arithmetic === 'native' && type !== 'F32' ? type : undefined;
    this.#halves = bitsOf(scheme) === 4;
    // Zero points of 8 bits would need 256 times the tables.
    this.#tables = type === 'BF16' && (scheme.symmetric || this.#halves) ? new Tables(scheme, this.#round) : undefined;
    this.#values = codeValues(scheme);
    this.#scaleBytes = scheme.scale !== 'float' ? 1 : type === 'F32' ? 4 : 2;
  }

  run(block: RowBlock, into: readonly Uint8Array[], sums: ErrorSums | undefined): NotFinite | undefined {
    const { rows, cols } = block;
    const { groupRows, groupCols, symmetric, format } = this.#scheme;
    const raw = rawOf(block.bytes, this.#type);
    const [codes, scales, zeroPoints] = into as [Uint8Array, Uint8Array, Uint8Array];
    const words = wordsOf(raw);
    const strip = { raw, words, into: codes, intoWords: codes.byteOffset % 4 === 0 ? wordsOf(codes) : undefined };
    const size = groupCols || cols;
    const used = this.#halves ? (cols + 1) >> 1 : cols;
    const rowBytes = format === 'pack-quantized' ? Math.ceil(used / 4) * 4 : used;
    if (this.#scheme.scale === 'e4m3') this.#setGlobalScale(block.globalScale);
    const groups = Math.ceil(cols / size);
    for (let top = 0; top < rows; top += groupRows) {
      const end = Math.min(top + groupRows, rows);
      for (let group = 0; group < groups; group += 1) {
        const col = group * size;
        const count = Math.min(size, cols - col);
        const divisor = symmetric
          ? this.#symmetric(raw, words, top, end, cols, col, count)
          : this.#asymmetric(raw, top * cols + col, count);
        if (!divisor) return this.#firstNotFinite(raw, top, end, cols, col, count);
        this.#writeScale(scales, (top / groupRows) * groups + group, divisor.stored);
        if (!symmetric) this.#writeZeroPoint(zeroPoints, top, group, groups, divisor.zero);
        for (let row = top; row < end; row += 1) {
          const from = row * cols + col;
          const at = row * rowBytes + (this.#halves ? col >> 1 : col);
          this.#encode(strip, from, count, divisor, at);
          if (sums) this.#addErrors(raw, from, count, divisor, codes, at, sums);
        }
      }
    }
    if (used < rowBytes) for (let row = 0; row < rows; row += 1) codes.fill(0, row * rowBytes + used, (row + 1) * rowBytes);
    return undefined;
  }

  #setGlobalScale(globalScale: number | undefined): void {
    if (globalScale === undefined) throw new Error(`${this.#scheme.method} needs the scale of the whole tensor`);
    if (globalScale === this.#globalScale) return;
    this.#globalScale = globalScale;
    this.#known = new Array(0x8000);
    this.#tables?.clear();
  }

  #symmetric(raw: Raw, words: Int32Array, top: number, end: number, cols: number, col: number, count: number): Divisor | undefined {
    let max = 0;
    for (let row = top; row < end; row += 1) max = Math.max(max, largest(raw, words, row * cols + col, count, this.#type));
    if (max >= infinityBits[this.#type]) return undefined;
    const known = this.#known[max];
    if (known) return known;
    const scale = scaleOf(this.#scheme, this.#type, numberOf(this.#type, max), this.#globalScale);
    const divisor = this.#withTable(scale, max);
    if (this.#type !== 'F32') this.#known[max] = divisor;
    return divisor;
  }

  #asymmetric(raw: Raw, from: number, count: number): Divisor | undefined {
    // Flips the sign and, where there are any, the bits that stand before it: negative numbers become their sizes, and all others negative.
    const flip = this.#type === 'F32' ? -0x80000000 : -0x8000;
    let [low, high] = [0, 0];
    for (let i = from; i < from + count; i += 1) {
      const bits = raw[i]!;
      if (bits > high) high = bits;
      if ((bits ^ flip) > low) low = bits ^ flip;
    }
    const type = this.#type;
    if (low >= infinityBits[type] || high >= infinityBits[type]) return undefined;
    const scale = asymmetricScaleOf(this.#scheme, type, numberOf(type, low), numberOf(type, high));
    return Number.isFinite(scale.divisor) ? this.#withTable(scale, Math.max(low, high)) : undefined;
  }

  #withTable(scale: Scale, max: number): Divisor {
    const base = this.#tables?.baseFor(scale.divisor) ?? 0;
    const able = this.#tables !== undefined && base > 0 && max - base < this.#tables.span;
    return { ...scale, table: able ? this.#tables?.tableFor(scale.divisor, scale.zero) : undefined, base };
  }

  #encode(strip: Strip<Raw>, from: number, count: number, divisor: Divisor, to: number): void {
    const { raw, into } = strip;
    const { table, base } = divisor;
    if (table && this.#halves) lookUpHalves(strip as Strip, from, count, table, base, to);
    else if (table) lookUpBytes(strip as Strip, from, count, table, base, to);
    else if (this.#halves) {
      const codes = this.#computed(raw, from, count, divisor);
      if (count & 1) codes[count] = 0;
      for (let i = 0; i < count; i += 2) into[to + (i >> 1)] = codes[i]! | (codes[i + 1]! << 4);
    } else {
      const codes = this.#computed(raw, from, count, divisor);
      for (let i = 0; i < count; i += 1) into[to + i] = codes[i]!;
    }
  }

  #computed(raw: Raw, from: number, count: number, { divisor, zero }: Divisor): Uint8Array {
    const lane = this.#laneFor(count);
    decode(raw, from, count, this.#type, lane.numbers, lane.bits);
    toCodes(this.#scheme, lane, count, divisor, zero, this.#round, this.#codes);
    return this.#codes;
  }

  #laneFor(count: number): Lane {
    if (count >= this.#codes.length) {
      this.#lane = laneOf(count);
      this.#codes = new Uint8Array(count + 1);
    }
    return this.#lane;
  }

  #addErrors(raw: Raw, from: number, count: number, divisor: Divisor, codes: Uint8Array, at: number, sums: ErrorSums): void {
    const { numbers, bits } = this.#laneFor(count);
    decode(raw, from, count, this.#type, numbers, bits);
    const add = this.#halves ? addErrorsOfHalves : addErrorsOfBytes;
    add(numbers, count, codes, at, this.#values, divisor, sums);
  }

  #writeScale(into: Uint8Array, at: number, stored: number): void {
    const size = this.#scaleBytes;
    for (let i = 0; i < size; i += 1) into[at * size + i] = stored >> (8 * i);
  }

  /** Zero points of the rows that share a word lie behind one another in it, the first row lowest. */
  #writeZeroPoint(into: Uint8Array, row: number, group: number, groups: number, zero: number): void {
    const perWord = this.#halves ? 8 : 4;
    const at = (Math.floor(row / perWord) * groups + group) * 4;
    const inWord = row % perWord;
    if (inWord === 0) into.fill(0, at, at + 4);
    if (this.#halves) into[at + (inWord >> 1)]! |= (zero + 8) << (inWord & 1 ? 4 : 0);
    else into[at + inWord] = zero + 128;
  }

  #firstNotFinite(raw: Raw, top: number, end: number, cols: number, col: number, count: number): NotFinite {
    for (let row = top; row < end; row += 1) {
      for (let i = 0; i < count; i += 1) {
        const value = numberOf(this.#type, raw[row * cols + col + i]!);
        if (!Number.isFinite(value)) return { row, col: col + i, value: String(value) as NotFinite['value'] };
      }
    }
    return { row: top, col, value: 'numbers too far apart for a scale' };
  }
}
