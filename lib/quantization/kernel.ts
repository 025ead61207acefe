import type { ErrorSums } from './error-sums.ts';
import { type FloatType, infinityBits, largest, numberOf, type Raw, rawOf, wordsOf } from './floats.ts';
import { asymmetricScaleOf, type Scale, scaleOf } from './scales.ts';
import { bitsOf, type Scheme } from './schemes.ts';
import { ScalarStrip, type Strip } from './strip.ts';
import { VectorStrip } from './vector-strip.ts';

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

/** One for each scheme, type and arithmetic that this thread has met: they keep what they have found out. */
const quantizers = new Map<string, Quantizer>();

/** The largest size among those weights; NaN or Infinity when one of them is. */
export function maxAbs(bytes: Uint8Array, dtype: FloatType): number {
  const raw = rawOf(bytes, dtype);
  return numberOf(dtype, largest(raw, wordsOf(raw), 0, raw.length, dtype));
}

/** So many weights are worked on at once, where rows are not longer: they and their codes stay in the nearer caches. */
const weightsAtOnce = 16_384;

class Quantizer {
  readonly #scheme: Scheme;
  readonly #type: FloatType;
  readonly #round: FloatType | undefined;
  readonly #halves: boolean;
  readonly #scaleBytes: number;
  readonly #scalar: Strip;
  readonly #vector: Strip | undefined;
  /** Scales by the integer size of a group's largest weight, where integers are of 16 bits. */
  #known = new Array<Scale | undefined>(0x8000);
  #globalScale = 1;

  constructor(scheme: Scheme, type: FloatType, arithmetic: Arithmetic) {
    this.#scheme = scheme;
    this.#type = type;
    this.#round = arithmetic === 'native' && type !== 'F32' ? type : undefined;
    this.#halves = bitsOf(scheme) === 4;
    this.#scaleBytes = scheme.scale !== 'float' ? 1 : type === 'F32' ? 4 : 2;
    this.#scalar = new ScalarStrip(scheme, type, this.#round);
    this.#vector = type === 'BF16' ? VectorStrip.of(scheme, this.#round) : undefined;
  }

  run(block: RowBlock, into: readonly Uint8Array[], sums: ErrorSums | undefined): NotFinite | undefined {
    const { rows, cols } = block;
    const { groupRows, scale } = this.#scheme;
    if (scale === 'e4m3') this.#setGlobalScale(block.globalScale);
    const raw = rawOf(block.bytes, this.#type);
    const shape = this.#shapeOf(cols);
    const strip = (VectorStrip.takes(this.#type, cols, shape.size) ? this.#vector : undefined) ?? this.#scalar;
    const step = Math.max(groupRows, shape.rowsAtOnce);
    strip.reserve(shape.rowsAtOnce * cols, shape.rowsAtOnce * shape.groups);
    for (let top = 0; top < rows; top += step) {
      const end = Math.min(top + step, rows);
      const found = this.#measure(strip, raw, top, end, shape);
      const fault = this.#setScales(strip, found, top, end, shape, into);
      if (fault !== undefined) return this.#firstNotFinite(raw, top, end, shape, fault);
      this.#encode(strip, raw, top, end, shape, into[0] as Uint8Array, sums);
    }
    return undefined;
  }

  #shapeOf(cols: number): Shape {
    const { groupRows, groupCols, format } = this.#scheme;
    const size = groupCols || cols;
    const whole = Math.floor(cols / size);
    const rest = cols % size;
    const used = this.#halves ? (cols + 1) >> 1 : cols;
    const rowBytes = format === 'pack-quantized' ? Math.ceil(used / 4) * 4 : used;
    const simple = groupRows === 1 && rest === 0 && used === rowBytes;
    const rowsAtOnce = simple ? Math.max(1, Math.floor(weightsAtOnce / cols)) : 1;
    return { cols, size, whole, rest, groups: rest > 0 ? whole + 1 : whole, used, rowBytes, rowsAtOnce };
  }

  #setGlobalScale(globalScale: number | undefined): void {
    if (globalScale === undefined) throw new Error(`${this.#scheme.method} needs the scale of the whole tensor`);
    if (globalScale === this.#globalScale) return;
    this.#globalScale = globalScale;
    this.#known = new Array(0x8000);
  }

  /** Loads rows that share no scale, or one after the other those that do: the last one stays then. Returns as `found` of a strip. */
  #measure(strip: Strip, raw: Raw, top: number, end: number, { cols, size, whole, rest, groups, rowsAtOnce }: Shape): Int32Array {
    const blocks = this.#scheme.groupRows > 1;
    const found = blocks ? new Int32Array(groups) : strip.found;
    for (let row = top; row < end; row += rowsAtOnce) {
      const count = Math.min(rowsAtOnce, end - row);
      strip.load(raw, row * cols, count * cols);
      strip.measure(0, count * whole, size, 0);
      if (rest > 0) strip.measure(whole * size, 1, rest, whole);
      if (blocks) for (let i = 0; i < groups; i += 1) found[i] = Math.max(found[i]!, strip.found[i]!);
    }
    return found;
  }

  /** Finds the scales, writes them and puts them where they are used. Returns which group has none. */
  #setScales(
    { divisors, zeros }: Strip,
    found: Int32Array,
    top: number,
    end: number,
    { groups }: Shape,
    [, scales, zeroPoints]: readonly Uint8Array[],
  ): number | undefined {
    const { groupRows, symmetric } = this.#scheme;
    const count = groupRows > 1 ? groups : (end - top) * groups;
    const first = (top / groupRows) * groups;
    for (let i = 0; i < count; i += 1) {
      const scale = symmetric ? this.#symmetric(found[i]!) : this.#asymmetric(found[2 * i]!, found[2 * i + 1]!);
      if (!scale) return i;
      divisors[i] = scale.divisor;
      zeros[i] = scale.zero;
      this.#writeScale(scales as Uint8Array, first + i, scale.stored);
      if (!symmetric) this.#writeZeroPoint(zeroPoints as Uint8Array, top + Math.floor(i / groups), i % groups, groups, scale.zero);
    }
    return undefined;
  }

  #symmetric(max: number): Scale | undefined {
    if (max >= infinityBits[this.#type]) return undefined;
    const known = this.#known[max];
    if (known) return known;
    const scale = scaleOf(this.#scheme, this.#type, numberOf(this.#type, max), this.#globalScale);
    if (this.#type !== 'F32') this.#known[max] = scale;
    return scale;
  }

  #asymmetric(low: number, high: number): Scale | undefined {
    const type = this.#type;
    if (low >= infinityBits[type] || high >= infinityBits[type]) return undefined;
    const scale = asymmetricScaleOf(this.#scheme, type, numberOf(type, low), numberOf(type, high));
    return Number.isFinite(scale.divisor) ? scale : undefined;
  }

  #encode(strip: Strip, raw: Raw, top: number, end: number, shape: Shape, codes: Uint8Array, sums?: ErrorSums): void {
    const { cols, size, whole, rest, used, rowBytes, rowsAtOnce } = shape;
    for (let row = top; row < end; row += rowsAtOnce) {
      const count = Math.min(rowsAtOnce, end - row);
      const to = row * rowBytes;
      if (this.#scheme.groupRows > 1) strip.load(raw, row * cols, count * cols);
      strip.encode(0, count * whole, size, 0, codes, to, sums);
      if (rest > 0) strip.encode(whole * size, 1, rest, whole, codes, to + (this.#halves ? (whole * size) >> 1 : whole * size), sums);
      if (used < rowBytes) codes.fill(0, to + used, to + rowBytes);
    }
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

  #firstNotFinite(raw: Raw, top: number, end: number, { cols, size, groups }: Shape, group: number): NotFinite {
    const blocks = this.#scheme.groupRows > 1;
    const [first, last] = blocks ? [top, end] : [top + Math.floor(group / groups), top + Math.floor(group / groups) + 1];
    const col = (group % groups) * size;
    for (let row = first; row < last; row += 1) {
      for (let i = col; i < Math.min(col + size, cols); i += 1) {
        const value = numberOf(this.#type, raw[row * cols + i]!);
        if (!Number.isFinite(value)) return { row, col: i, value: String(value) as NotFinite['value'] };
      }
    }
    return { row: first, col, value: 'numbers too far apart for a scale' };
  }
}

/** How rows of a weight lie. */
interface Shape {
  cols: number;
  /** Weights of a whole group in a row, how many of these there are in one, the weights behind them, and all groups with those. */
  size: number;
  whole: number;
  rest: number;
  groups: number;
  /** Bytes of a row's codes, and with those that fill its last word. */
  used: number;
  rowBytes: number;
  rowsAtOnce: number;
}
