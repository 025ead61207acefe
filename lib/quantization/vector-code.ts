import type { FloatType } from './floats.ts';
import { bitsOf, type Scheme } from './schemes.ts';
import { type Code, Func, f32x4, f64, i8x16, i16x8, i32, i32x4, type Local, moduleOf, v128 } from './wasm.ts';

/** So many weights are worked on at once: sizes of groups must be multiples of it. */
export const together = 16;

/**
 * The arithmetic of codes.ts on bfloat16 weights, as WebAssembly on vectors, bit for bit the same: its float32 is that of IEEE 754, as JavaScript's is.
 * `measure(from, groups, size, into)`: for each group of `size` weights the largest size, as an integer of 32 bits; with zero points the largest size of
 * the negative weights and that of the others. `encode(from, groups, size, divisors, zeros, into)`: the codes, as they are stored; divisors and zero
 * points are one float32 for each group. `addErrors(from, groups, size, divisors, zeros, codes, values, into)`: the two sums of error-sums.ts, from 0 on, as
 * float64; `values` are what codes stand for. All but `groups`, at least 1, and `size` are addresses.
 */
export function vectorModule(scheme: Scheme, round: FloatType | undefined): Uint8Array {
  return moduleOf([measure(scheme.symmetric), encode(scheme, round), addErrors(bitsOf(scheme))]);
}

const float = new Float32Array(1);
const word = new Int32Array(float.buffer);
/** Four times the same float32. */
function splat(value: number): Code {
  float[0] = value;
  return v128.const(word[0]!);
}

function measure(symmetric: boolean): Func {
  const fn = new Func('measure', ['from', 'groups', 'size', 'into']);
  const { from, groups, size, into } = fn.params;
  const left = fn.local('i32');
  const mask = fn.keep(v128.const(symmetric ? 0x7fff7fff : 0x80008000));
  // For sizes of one sign integers order as the weights do. Two of each, so that none waits for the one before.
  const found = (symmetric ? [0, 0] : [0, 0, 0, 0]).map(() => fn.local('v128'));
  fn.repeat(groups, 1, () => {
    fn.do(left.set(size.get), ...found.map((each) => each.set(v128.const(0))));
    fn.repeat(left, together, () => {
      for (const [i, offset] of [0, 16].entries()) {
        const weights = fn.keep(v128.load(from.get, offset));
        // With the sign turned, negative weights are their sizes, and the others are negative.
        const first = symmetric ? v128.and(weights, mask) : v128.xor(weights, mask);
        fn.do(found[i]!.set(i16x8.maxS(found[i]!.get, first)));
        if (!symmetric) fn.do(found[i + 2]!.set(i16x8.maxS(found[i + 2]!.get, weights)));
      }
      fn.do(from.set(i32.add(from.get, i32.const(32))));
    });
    for (let i = 0; i < found.length; i += 2) {
      fn.do(i32.store(into.get, largestLane(fn, i16x8.maxS(found[i]!.get, found[i + 1]!.get))));
      fn.do(into.set(i32.add(into.get, i32.const(4))));
    }
  });
  return fn;
}

/** The largest of 8 lanes of 16 bits. */
function largestLane(fn: Func, value: Code): Code {
  let found = value;
  for (const distance of [8, 4, 2]) {
    const kept = fn.keep(found);
    const turned = Array.from({ length: 16 }, (_, i) => (i + distance) % 16);
    found = i16x8.maxS(kept, v128.shuffle(kept, turned));
  }
  return i16x8.firstLane(found);
}

function encode(scheme: Scheme, round: FloatType | undefined): Func {
  const fn = new Func('encode', ['from', 'groups', 'size', 'divisors', 'zeros', 'into']);
  const { from, groups, size, divisors, zeros, into } = fn.params;
  const left = fn.local('i32');
  const halves = bitsOf(scheme) === 4;
  const coder = scheme.code.startsWith('int') ? integerCoder(fn, scheme) : floatCoder(fn, scheme);
  // The second arithmetic does not reach the codes of NVFP4: their quotient is a float32 in both.
  const rounded = round && scheme.scale !== 'e4m3' ? bf16Rounder(fn) : (value: Code) => value;
  const [divisor, zero] = [fn.local('v128'), fn.local('v128')];
  const quotient = (weights: Code): Code => {
    const exact = rounded(f32x4.div(weights, divisor.get));
    return scheme.symmetric ? exact : rounded(f32x4.add(exact, zero.get));
  };
  const pairs = (offset: number): Code => coder.pairs(fn.keep(v128.load(from.get, offset)), quotient);
  fn.repeat(groups, 1, () => {
    fn.do(left.set(size.get), divisor.set(v128.load32Splat(divisors.get)), zero.set(v128.load32Splat(zeros.get)));
    fn.repeat(left, together, () => {
      const codes = fn.keep(i16x8.narrowI32x4U(pairs(0), pairs(16)));
      if (halves) fn.do(v128.storeLow64(into.get, i8x16.narrowI16x8U(codes, codes)));
      else fn.do(v128.store(into.get, coder.finish(codes, v128.load(from.get), v128.load(from.get, 16))));
      fn.do(from.set(i32.add(from.get, i32.const(32))), into.set(i32.add(into.get, i32.const(halves ? 8 : 16))));
    });
    fn.do(divisors.set(i32.add(divisors.get, i32.const(4))), zeros.set(i32.add(zeros.get, i32.const(4))));
  });
  return fn;
}

interface Coder {
  /** From 8 weights 4 pairs of codes, each a lane of 32 bits: the first code lowest, the next one behind it. */
  pairs(weights: Code, quotient: (weights: Code) => Code): Code;
  /** What is missing in 16 codes of 8 bits, of those weights. */
  finish(codes: Code, low: Code, high: Code): Code;
}

/** The lower weight of each lane, and the upper one, as float32. */
function decoded(fn: Func, weights: Code, upper: Code): [even: Code, odd: Code] {
  return [fn.keep(i32x4.shl(weights, 16)), fn.keep(v128.and(weights, upper))];
}

function integerCoder(fn: Func, scheme: Scheme): Coder {
  const bits = bitsOf(scheme);
  const half = 1 << (bits - 1);
  const upper = fn.keep(v128.const(0xffff0000));
  const [min, max] = [fn.keep(splat(-half)), fn.keep(splat(half - 1))];
  // Behind 1.5 * 2^23 a float32 has no room for fractions: the addition rounds, and the integer stands in its lowest bits, with `half` on top to have no sign.
  const rounding = fn.keep(splat(12582912 + half));
  const mask = fn.keep(v128.const((1 << (2 * bits)) - 1));
  const turned = fn.keep(v128.const(0x80808080));
  return {
    pairs(weights, quotient) {
      const [even, odd] = decoded(fn, weights, upper).map((each) => {
        return f32x4.add(f32x4.min(f32x4.max(quotient(each), min), max), rounding);
      }) as [Code, Code];
      return v128.and(i32x4.add(even, i32x4.shl(odd, bits)), mask);
    },
    finish: (codes) => (scheme.packed ? codes : v128.xor(codes, turned)),
  };
}

function floatCoder(fn: Func, scheme: Scheme): Coder {
  const [mantissa, firstExponent, largest] = scheme.code === 'e4m3' ? [3, -6, 448] : [1, 0, 6];
  const bits = bitsOf(scheme);
  const upper = fn.keep(v128.const(0x7fff0000));
  const sizes = fn.keep(v128.const(0x7fff7fff));
  const [max, least] = [fn.keep(splat(largest)), fn.keep(splat(2 ** firstExponent))];
  const exponents = fn.keep(v128.const(0x7f800000));
  const lost = 23 - mantissa;
  const distance = fn.keep(v128.const(lost << 23));
  const offset = (127 + firstExponent) << mantissa;
  const offsets = fn.keep(v128.const(offset * (1 + (1 << bits))));
  const signs = fn.keep(v128.const(0x80808080));
  const [evenSign, oddSign] = [fn.keep(v128.const(8)), fn.keep(v128.const(0x80))];
  const zero = fn.keep(v128.const(0));
  const code = (quotient: Code): Code => {
    const size = fn.keep(f32x4.min(quotient, max));
    const exponent = fn.keep(v128.and(i32x4.maxS(size, least), exponents));
    // A power of two so much larger leaves the sum the bits of mantissa that the code has: the addition rounds.
    const power = fn.keep(i32x4.add(exponent, distance));
    return i32x4.add(i32x4.sub(f32x4.add(size, power), power), i32x4.shrU(exponent, lost));
  };
  return {
    pairs(weights, quotient) {
      const [even, odd] = decoded(fn, fn.keep(v128.and(weights, sizes)), upper).map((each) => fn.keep(quotient(each))) as [Code, Code];
      const codes = i32x4.sub(i32x4.add(code(even), i32x4.shl(code(odd), bits)), offsets);
      if (bits === 8) return codes;
      // What is below zero stays negative where it rounds to zero, but zero has no sign.
      const evenSigns = v128.and(v128.and(i32x4.shrU(weights, 12), evenSign), i32x4.gtS(even, zero));
      const oddSigns = v128.and(v128.and(i32x4.shrU(weights, 24), oddSign), i32x4.gtS(odd, zero));
      return v128.or(codes, v128.or(evenSigns, oddSigns));
    },
    finish: (codes, low, high) => {
      return v128.or(codes, v128.and(i8x16.narrowI16x8S(i16x8.shrS(low, 8), i16x8.shrS(high, 8)), signs));
    },
  };
}

/** To bfloat16, halves to even. */
function bf16Rounder(fn: Func): (value: Code) => Code {
  const [one, half, upper] = [fn.keep(v128.const(1)), fn.keep(v128.const(0x7fff)), fn.keep(v128.const(0xffff0000))];
  return (value) => {
    const exact = fn.keep(value);
    return v128.and(i32x4.add(i32x4.add(exact, half), v128.and(i32x4.shrU(exact, 16), one)), upper);
  };
}

/** Weight after weight: a sum of float64 depends on its order. */
function addErrors(bits: 4 | 8): Func {
  const fn = new Func('addErrors', ['from', 'groups', 'size', 'divisors', 'zeros', 'codes', 'values', 'into']);
  const { from, groups, size, divisors, zeros, codes, values, into } = fn.params;
  const [left, code] = [fn.local('i32'), fn.local('i32')];
  const [error, signal, divisor, zero, number, off] = Array.from({ length: 6 }, () => fn.local('f64')) as [
    Local,
    Local,
    Local,
    Local,
    Local,
    Local,
  ];
  const add = (weight: Code, stored: Code) => {
    const value = f64.loadF32(i32.add(values.get, i32.shl(stored, i32.const(2))));
    fn.do(number.set(f64.ofF32Bits(i32.shl(weight, i32.const(16)))));
    fn.do(off.set(f64.sub(number.get, f64.mul(f64.sub(value, zero.get), divisor.get))));
    fn.do(error.set(f64.add(error.get, f64.mul(off.get, off.get))), signal.set(f64.add(signal.get, f64.mul(number.get, number.get))));
  };
  fn.repeat(groups, 1, () => {
    fn.do(left.set(size.get), divisor.set(f64.loadF32(divisors.get)), zero.set(f64.loadF32(zeros.get)));
    fn.repeat(left, 2, () => {
      fn.do(code.set(i32.load8U(codes.get)));
      add(i32.load16U(from.get), bits === 8 ? code.get : i32.and(code.get, i32.const(15)));
      add(i32.load16U(from.get, 2), bits === 8 ? i32.load8U(codes.get, 1) : i32.shrU(code.get, i32.const(4)));
      fn.do(from.set(i32.add(from.get, i32.const(4))), codes.set(i32.add(codes.get, i32.const(bits === 8 ? 2 : 1))));
    });
    fn.do(divisors.set(i32.add(divisors.get, i32.const(4))), zeros.set(i32.add(zeros.get, i32.const(4))));
  });
  fn.do(f64.store(into.get, error.get), f64.store(into.get, signal.get, 8));
  return fn;
}
