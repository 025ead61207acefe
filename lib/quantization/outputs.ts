import type { FloatType } from './floats.ts';
import { bitsOf, type Scheme } from './schemes.ts';

/** One tensor that stands for a weight in the quantized model. */
export interface Output {
  /** Full name: the module's, a dot, and what it is. */
  name: string;
  dtype: 'F8_E4M3' | 'I8' | 'U8' | 'I32' | 'I64' | FloatType;
  shape: number[];
  /** Size of the whole tensor. */
  bytes: number;
  /** How many of the weight's rows one of its rows stands for; 0: it does not depend on the rows, its bytes come from `fixedValue`. */
  perRow: number;
  /** Bytes of one of its rows; with `perRow` 0 those of all of it. */
  rowBytes: number;
}

/**
 * The tensors that take the place of `<module>.weight` of `[rows, cols]`, known before any value is read. Those that `quantizeRows` writes come first,
 * in its order; those with `perRow` 0 last.
 */
export function outputsOf(scheme: Scheme, module: string, [rows, cols]: readonly [number, number], dtype: FloatType): Output[] {
  const { code, scale, symmetric, packed, groupRows, groupCols, format } = scheme;
  const groups = groupCols === 0 ? 1 : Math.ceil(cols / groupCols);
  const perWord = 32 / bitsOf(scheme);
  const make = (part: string, type: Output['dtype'], size: number, perRow: number, width: number): Output => {
    const count = Math.ceil(rows / perRow);
    return { name: `${module}.${part}`, dtype: type, shape: [count, width], bytes: count * width * size, perRow, rowBytes: width * size };
  };
  const fixed = (part: string, type: Output['dtype'], bytes: number, count: number): Output => {
    return { name: `${module}.${part}`, dtype: type, shape: [count], bytes, perRow: 0, rowBytes: bytes };
  };
  const scaleType = { float: dtype, e4m3: 'F8_E4M3', e8m0: 'U8' } as const;
  const scaleSize = scale !== 'float' ? 1 : dtype === 'F32' ? 4 : 2;
  const scales = make('weight_scale', scaleType[scale], scaleSize, groupRows, groups);
  if (!packed) return [make('weight', code === 'e4m3' ? 'F8_E4M3' : 'I8', 1, 1, cols), scales];
  if (format !== 'pack-quantized') {
    const codes = make('weight_packed', 'U8', 1, 1, cols / 2);
    return scale === 'e4m3' ? [codes, scales, fixed('weight_global_scale', 'F32', 4, 1)] : [codes, scales];
  }
  const zeroPoints = symmetric ? [] : [make('weight_zero_point', 'I32', 4, perWord, groups)];
  return [make('weight_packed', 'I32', 4, 1, Math.ceil(cols / perWord)), scales, ...zeroPoints, fixed('weight_shape', 'I64', 16, 2)];
}

/** The bytes of an output with `perRow` 0: the weight's shape, or the scale of the whole tensor (`globalScaleOf`). */
export function fixedValue(output: Output, shape: readonly [number, number], globalScale = 1): Uint8Array {
  const value = output.dtype === 'I64' ? new BigInt64Array(shape.map(BigInt)) : new Float32Array([globalScale]);
  return new Uint8Array(value.buffer);
}
