/** The float types a checkpoint's weights come in, as safetensors names them. */
export type FloatType = 'BF16' | 'F16' | 'F32';

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

/** The bits of a float32, as a signed integer. */
export function bitsOfF32(value: number): number {
  float[0] = value;
  return word[0]! | 0;
}

/** The float32 of those bits. */
export function f32OfBits(bits: number): number {
  word[0] = bits;
  return float[0]!;
}

/** The integer nearest to a number below 2^51, halves to even. */
export function rint(value: number): number {
  // Behind 1.5 * 2^52 a double has no room for fractions: the addition rounds.
  return value + 6755399441055744 - 6755399441055744;
}

/** The bits of a float32 rounded to bfloat16, halves to even; the value must not be NaN. */
export function bf16Bits(value: number): number {
  float[0] = value;
  const bits = word[0]!;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** The bits of a float32 rounded to float16, halves to even; the value must not be NaN. */
export function f16Bits(value: number): number {
  float[0] = value;
  const sign = (word[0]! >>> 16) & 0x8000;
  const size = Math.abs(value);
  if (size >= 65520) return sign | 0x7c00;
  // Below the normals the bits count steps of 2^-24; a carry gives the smallest normal, as it should.
  if (size < 2 ** -14) return sign | rint(size * 2 ** 24);
  const exponent = ((word[0]! >>> 23) & 0xff) - 127;
  return sign | (((exponent + 14) << 10) + rint(size * f32OfBits((137 - exponent) << 23)));
}

const f16Values = new Float32Array(0x10000);
for (let bits = 0; bits < 0x10000; bits += 1) {
  const exponent = (bits >> 10) & 0x1f;
  const mantissa = bits & 0x3ff;
  const size =
    exponent === 0 ? mantissa * 2 ** -24 : exponent < 31 ? (1024 + mantissa) * 2 ** (exponent - 25) : mantissa ? Number.NaN : Infinity;
  f16Values[bits] = bits & 0x8000 ? -size : size;
}

/** The bits of a float32 rounded to that type, halves to even. */
export function bitsIn(type: FloatType, value: number): number {
  return type === 'BF16' ? bf16Bits(value) : type === 'F16' ? f16Bits(value) : bitsOfF32(value);
}

/** The value of those bits in that type. */
export function numberOf(type: FloatType, bits: number): number {
  return type === 'BF16' ? f32OfBits(bits << 16) : type === 'F16' ? f16Values[bits & 0xffff]! : f32OfBits(bits);
}

/** A number rounded to float32 and then to that type, halves to even; NaN stays NaN. */
export function roundTo(type: FloatType, value: number): number {
  if (type === 'F32' || Number.isNaN(value)) return Math.fround(value);
  return numberOf(type, bitsIn(type, value));
}

/** Weights as the file has them, as signed integers: for sizes of one sign these order as the values do. */
export type Raw = Int16Array | Int32Array;

/** The bytes of weights as integers, without a copy where they are aligned to whole words. */
export function rawOf(bytes: Uint8Array, type: FloatType): Raw {
  const { buffer, byteOffset, byteLength } = bytes.byteOffset % 4 === 0 ? bytes : new Uint8Array(bytes);
  return type === 'F32' ? new Int32Array(buffer, byteOffset, byteLength / 4) : new Int16Array(buffer, byteOffset, byteLength / 2);
}

/** The same memory as words of 32 bits, as far as it fills whole ones; it must be aligned to them. Loops that take two weights or four codes at once use it. */
export function wordsOf({ buffer, byteOffset, byteLength }: Raw | Uint8Array): Int32Array {
  return new Int32Array(buffer, byteOffset, byteLength >> 2);
}

/** Where infinity begins among the integers of sizes: all above are NaN. */
export const infinityBits = { BF16: 0x7f80, F16: 0x7c00, F32: 0x7f800000 } as const;
/** The smallest number with all its bits of precision. */
export const smallestNormal = { BF16: 2 ** -126, F16: 2 ** -14, F32: 2 ** -126 } as const;

/** Writes `count` weights from `from` as float32 into the beginning of `into` (`bits`: the same memory as integers). */
export function decode(raw: Raw, from: number, count: number, type: FloatType, into: Float32Array, bits: Int32Array): void {
  if (type === 'F16') for (let i = 0; i < count; i += 1) into[i] = f16Values[raw[from + i]! & 0xffff]!;
  else if (type === 'BF16') for (let i = 0; i < count; i += 1) bits[i] = raw[from + i]! << 16;
  else for (let i = 0; i < count; i += 1) bits[i] = raw[from + i]!;
}

/**
 * The largest size among `count` weights from `from`, as an integer (`numberOf` gives its value); NaN counts as larger than infinity.
 * `words`: the same memory (`wordsOf`).
 */
export function largest(raw: Raw, words: Int32Array, from: number, count: number, type: FloatType): number {
  return type === 'F32' ? largestWord(words, from, from + count) : largestHalf(raw, words, from, from + count);
}

function largestWord(words: Int32Array, from: number, end: number): number {
  let max = 0;
  for (let i = from; i < end; i += 1) max = Math.max(max, words[i]! & 0x7fffffff);
  return max;
}

/** Two weights at once, the lower and the upper half of a word each with a largest of its own: twice as fast as one by one. */
function largestHalf(raw: Raw, words: Int32Array, from: number, end: number): number {
  let low = from & 1 ? raw[from]! & 0x7fff : 0;
  let high = 0;
  const endWord = end >> 1;
  for (let i = (from + 1) >> 1; i < endWord; i += 1) {
    const word = words[i]!;
    low = Math.max(low, word & 0x7fff);
    high = Math.max(high, word & 0x7fff0000);
  }
  if (end & 1) low = Math.max(low, raw[end - 1]! & 0x7fff);
  return Math.max(low, high >> 16);
}
