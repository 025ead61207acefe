import { e4m3Bits, e4m3Values } from './codes.ts';
import { bitsIn, bitsOfF32, type FloatType, rint, roundTo, smallestNormal } from './floats.ts';
import { bitsOf, type Scheme } from './schemes.ts';

/** What the weights of one group are divided by. */
export interface Scale {
  /** The scale's bits, as its tensor has them. */
  stored: number;
  /** The float32 by which weights are divided. */
  divisor: number;
  /** The zero point, which is added then; 0 in symmetric schemes. */
  zero: number;
}

/** What stands in for a scale that came out as zero. */
const epsilon = { BF16: 2 ** -7, F16: 2 ** -10, F32: 2 ** -23 } as const;

/** The scale of a group of a symmetric scheme whose largest size is `max`, finite. `globalScale` is used by NVFP4 alone. */
export function scaleOf(scheme: Scheme, type: FloatType, max: number, globalScale: number): Scale {
  if (scheme.scale === 'e8m0') return powerOfTwo(type, max);
  if (scheme.scale === 'e4m3') {
    const wanted = Math.fround(globalScale * roundTo(type, Math.fround(max / 6)));
    const stored = e4m3Bits(Math.min(wanted, 448)) || e4m3Bits(0.125);
    return { stored, divisor: Math.fround(e4m3Values[stored]! / globalScale), zero: 0 };
  }
  // Integers: half of what lies between the smallest and the largest code, so the largest positive weight loses up to half a step.
  const reach = scheme.code === 'e4m3' ? 448 : (2 ** bitsOf(scheme) - 1) / 2;
  return stored(type, roundTo(type, Math.fround(max / reach)), 0);
}

/** The scale and zero point of a group whose smallest weight is -`low` and whose largest is `high`, both finite and at least 0. */
export function asymmetricScaleOf(scheme: Scheme, type: FloatType, low: number, high: number): Scale {
  const steps = 2 ** bitsOf(scheme) - 1;
  const min = -(steps + 1) / 2;
  const scale = roundTo(type, Math.fround(roundTo(type, Math.fround(high + low)) / steps));
  const zero = roundTo(type, Math.fround(min - roundTo(type, Math.fround(-low / scale))));
  // A group of zeros: 0 / 0.
  return stored(type, scale, Number.isNaN(zero) ? 0 : rint(Math.min(Math.max(zero, min), min + steps)));
}

function stored(type: FloatType, scale: number, zero: number): Scale {
  const divisor = scale === 0 ? epsilon[type] : scale;
  return { stored: bitsIn(type, divisor), divisor, zero };
}

/** The exponent of MXFP4: two below that of the largest size, which first goes up to the next power of two from a mantissa of 1.75 on. */
function powerOfTwo(type: FloatType, max: number): Scale {
  const least = smallestNormal[type];
  // Below the normals the reference's trick on the bits sees zero, but for the sizes that it first takes up to the smallest normal.
  const bits = bitsOfF32(max >= least ? max : max >= 0.75 * least ? least : 0);
  const exponent = bits === 0 ? 0 : (bits >> 23) - 2 + ((bits & 0x7fffff) >= 0x600000 ? 1 : 0);
  const byte = Math.max(exponent, 0);
  const divisor = roundTo(type, 2 ** (byte - 127));
  // float16 cannot hold what is below 2^-24.
  return divisor === 0 ? { stored: 127, divisor: 1, zero: 0 } : { stored: byte, divisor, zero: 0 };
}

/** NVFP4's scale of a whole tensor, or of several that a server fuses, from the largest size in all of them (`maxAbs`), which must be finite. */
export function globalScaleOf(max: number, type: FloatType): number {
  const inverse = roundTo(type, Math.fround(1 / Math.max(max, smallestNormal[type])));
  const scale = roundTo(type, Math.fround(inverse * (448 * 6)));
  return Number.isFinite(scale) ? scale : 1;
}
