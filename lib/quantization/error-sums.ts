import type { Scale } from './scales.ts';

/** Sums over weights, to add to: relative error = sqrt(error / signal). */
export interface ErrorSums {
  /** (weight - what its code stands for)^2 */
  error: number;
  /** weight^2 */
  signal: number;
}

/** Adds what `count` numbers and their codes, one a byte, come to; `values`: what each code stands for. */
export function addErrors(
  numbers: Float32Array,
  count: number,
  codes: Uint8Array,
  values: Float32Array,
  { divisor, zero }: Pick<Scale, 'divisor' | 'zero'>,
  sums: ErrorSums,
): void {
  let [error, signal] = [0, 0];
  for (let i = 0; i < count; i += 1) {
    const number = numbers[i]!;
    const off = number - (values[codes[i]!]! - zero) * divisor;
    error += off * off;
    signal += number * number;
  }
  sums.error += error;
  sums.signal += signal;
}
