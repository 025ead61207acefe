import { bitsOfF32, type FloatType, f32OfBits, rint, roundTo } from './floats.ts';
import { bitsOf, type Code, type Scheme } from './schemes.ts';

/** A strip of float32 numbers to work on, and the same memory as integers. */
export interface Lane {
  numbers: Float32Array;
  bits: Int32Array;
}

/** A strip of that many numbers. */
export function laneOf(length: number): Lane {
  const numbers = new Float32Array(length);
  return { numbers, bits: new Int32Array(numbers.buffer) };
}

/** What is added to an integer code where it is stored: packed ones have no sign. */
function biasOf(scheme: Scheme): number {
  return scheme.code.startsWith('int') && scheme.packed ? 1 << (bitsOf(scheme) - 1) : 0;
}

/**
 * Weights to codes: divides the first `count` numbers of the lane, which it changes, by the scale, adds the zero point (0: none), and writes one code
 * a byte, as it is stored. `round`: the type that the quotient (and the sum) is rounded to, the arithmetic of the reference on a CPU; undefined: float32.
 */
export function toCodes(
  scheme: Scheme,
  lane: Lane,
  count: number,
  divisor: number,
  zero: number,
  round: FloatType | undefined,
  into: Uint8Array,
): void {
  const { numbers } = lane;
  for (let i = 0; i < count; i += 1) numbers[i] = numbers[i]! / divisor;
  // The second arithmetic does not reach the codes of NVFP4: their quotient is a float32 in both.
  const type = scheme.scale === 'e4m3' ? undefined : round;
  if (type) for (let i = 0; i < count; i += 1) numbers[i] = roundTo(type, numbers[i]!);
  if (zero !== 0) {
    for (let i = 0; i < count; i += 1) numbers[i] = numbers[i]! + zero;
    if (type) for (let i = 0; i < count; i += 1) numbers[i] = roundTo(type, numbers[i]!);
  }
  if (scheme.code === 'e4m3') toE4m3(lane, count, into);
  else if (scheme.code === 'e2m1') toE2m1(lane, count, into);
  else toIntegers(numbers, count, bitsOf(scheme), biasOf(scheme), into);
}

function toIntegers(numbers: Float32Array, count: number, bits: number, bias: number, into: Uint8Array): void {
  const [min, max] = [-(1 << (bits - 1)), (1 << (bits - 1)) - 1];
  for (let i = 0; i < count; i += 1) {
    const value = numbers[i]!;
    into[i] = (value <= min ? min : value >= max ? max : rint(value)) + bias;
  }
}

/** 1-4-3 with bias 7, the largest 448 (0x7e); nearest, halves to even, the sign of zero kept. */
function toE4m3({ bits }: Lane, count: number, into: Uint8Array): void {
  for (let i = 0; i < count; i += 1) {
    const size = bits[i]! & 0x7fffffff;
    const sign = (bits[i]! >>> 24) & 0x80;
    if (size >= 0x43e00000) into[i] = sign | 0x7e;
    // Three bits of mantissa are left; the exponent's bias falls from 127 to 7.
    else if (size >= 0x3c800000) into[i] = sign | (((size + 0x7ffff + ((size >> 20) & 1)) >> 20) - 960);
    // Below 2^-6 codes count steps of 2^-9, which is the last bit of a float32 from 2^14 on.
    else into[i] = sign | (bitsOfF32(f32OfBits(size) + 16384) & 0xff);
  }
}

/** 1-2-1: 0 .5 1 1.5 2 3 4 6; nearest, halves to the even code. What is below zero stays negative (code 8), but -0 becomes 0. */
function toE2m1({ numbers, bits }: Lane, count: number, into: Uint8Array): void {
  for (let i = 0; i < count; i += 1) {
    const size = bits[i]! & 0x7fffffff;
    const sign = numbers[i]! < 0 ? 8 : 0;
    if (size >= 0x40c00000) into[i] = sign | 7;
    // One bit of mantissa is left; the exponent's bias falls from 127 to 1.
    else if (size >= 0x3f800000) into[i] = sign | (((size + 0x1fffff + ((size >> 22) & 1)) >> 22) - 252);
    else into[i] = sign | rint(Math.abs(numbers[i]!) * 2);
  }
}

/** The code of a number in e4m3 (sizes over 448 become 448). */
export function e4m3Bits(value: number): number {
  one.numbers[0] = value;
  toE4m3(one, 1, oneCode);
  return oneCode[0]!;
}
const one = laneOf(1);
const oneCode = new Uint8Array(1);

/** The value of each code in e4m3; 0x7f and 0xff are NaN. */
export const e4m3Values = floatValues(8, 4, 7);
e4m3Values[0x7f] = e4m3Values[0xff] = Number.NaN;
const e2m1Values = floatValues(4, 2, 1);

/** All values of a small float type with that many bits, bits of exponent, and bias. */
function floatValues(bits: number, exponentBits: number, bias: number): Float32Array {
  const mantissaBits = bits - 1 - exponentBits;
  return Float32Array.from({ length: 1 << bits }, (_, code) => {
    const mantissa = (code & ((1 << mantissaBits) - 1)) / (1 << mantissaBits);
    const exponent = (code >> mantissaBits) & ((1 << exponentBits) - 1);
    const size = exponent === 0 ? mantissa * 2 ** (1 - bias) : (1 + mantissa) * 2 ** (exponent - bias);
    return code >> (bits - 1) ? -size : size;
  });
}

/** The value that each stored code stands for, before the zero point is taken from it and the scale multiplied. */
export function codeValues(scheme: Scheme): Float32Array {
  const code: Code = scheme.code;
  if (code === 'e4m3') return e4m3Values;
  if (code === 'e2m1') return e2m1Values;
  const bias = biasOf(scheme);
  const length = 1 << bitsOf(scheme);
  return Float32Array.from({ length }, (_, stored) => (bias > 0 ? stored - bias : stored >= length / 2 ? stored - length : stored));
}
