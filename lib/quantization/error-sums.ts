import type { Scale } from './scales.ts';

/** Sums over weights, to add to: relative error = sqrt(error / signal). */
export interface ErrorSums {
  /** (weight - what its code stands for)^2 */
  error: number;
  /** weight^2 */
  signal: number;
}

/** Adds what `count` numbers and their codes from `at` on, one a byte, come to; `values`: what each code stands for. */
export function addErrorsOfBytes(
  numbers: Float32Array,
  count: number,
  codes: Uint8Array,
  at: number,
  values: Float32Array,
  { divisor, zero }: Scale,
  sums: ErrorSums,
): void {
  let [error, signal] = [0, 0];
  for (let i = 0; i < count; i += 1) {
    const number = numbers[i]!;
    const off = number - (values[codes[at + i]!]! - zero) * divisor;
    error += off * off;
    signal += number * number;
  }
  sums.error += error;
  sums.signal += signal;
}

/** The same for codes of 4 bits, two a byte. Two functions: one loop that can do both is half as fast. */
export function addErrorsOfHalves(
  numbers: Float32Array,
  count: number,
  codes: Uint8Array,
  at: number,
  values: Float32Array,
  { divisor, zero }: Scale,
  sums: ErrorSums,
): void {
  let [error, signal] = [0, 0];
  for (let i = 0; i < count; i += 1) {
    const number = numbers[i]!;
    const code = (codes[at + (i >> 1)]! >> ((i & 1) << 2)) & 15;
    const off = number - (values[code]! - zero) * divisor;
    error += off * off;
    signal += number * number;
  }
  sums.error += error;
  sums.signal += signal;
}
