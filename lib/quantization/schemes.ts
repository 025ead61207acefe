import { StepError } from '../errors.ts';

/** The ways to quantize that need no data but the weights themselves, as the flag names them. */
export const methods = ['fp8-dynamic', 'fp8-block', 'w8a8', 'w8a16', 'w4a16', 'w4a16-asym', 'nvfp4a16', 'mxfp4a16', 'mxfp4'] as const;
export type Method = (typeof methods)[number];

/** How one weight is written: integers, or the float formats 1-4-3 and 1-2-1 (sign, exponent, mantissa). */
export type Code = 'int8' | 'int4' | 'e4m3' | 'e2m1';

/** What is done to each weight, as plain data: it goes to worker threads as it is. */
export interface Scheme {
  /** The method, and `-g32` or `-channel` behind it when its groups are not the usual ones. */
  readonly id: string;
  readonly method: Method;
  readonly code: Code;
  /** Scales as the checkpoint's own float type, as e4m3 below one scale of the whole tensor, or as powers of two (e8m0). */
  readonly scale: 'float' | 'e4m3' | 'e8m0';
  /** False: each group has a zero point too. */
  readonly symmetric: boolean;
  /** True: `weight_packed` takes the place of `weight`. */
  readonly packed: boolean;
  /** Rows that share a scale: 1, or 128 for square blocks. */
  readonly groupRows: number;
  /** Columns that share a scale; 0: all of a row. */
  readonly groupCols: number;
  /** The layout's name in compressed-tensors. */
  readonly format: string;
  /** How the server shall quantize activations as they come; undefined: not at all. */
  readonly activations: 'token' | 'group' | undefined;
}

const base = { scale: 'float', symmetric: true, packed: true, groupRows: 1, groupCols: 0, activations: undefined } as const;
const int4 = { ...base, code: 'int4', groupCols: 128, format: 'pack-quantized' } as const;
const mxfp4 = { ...base, code: 'e2m1', scale: 'e8m0', groupCols: 32, format: 'mxfp4-pack-quantized' } as const;

const schemes: Record<Method, Omit<Scheme, 'id' | 'method'>> = {
  'fp8-dynamic': { ...base, code: 'e4m3', packed: false, format: 'float-quantized', activations: 'token' },
  'fp8-block': { ...base, code: 'e4m3', packed: false, groupRows: 128, groupCols: 128, format: 'float-quantized', activations: 'group' },
  w8a8: { ...base, code: 'int8', packed: false, format: 'int-quantized', activations: 'token' },
  w8a16: { ...int4, code: 'int8' },
  w4a16: int4,
  'w4a16-asym': { ...int4, symmetric: false },
  nvfp4a16: { ...base, code: 'e2m1', scale: 'e4m3', groupCols: 16, format: 'nvfp4-pack-quantized' },
  mxfp4a16: mxfp4,
  mxfp4: { ...mxfp4, activations: 'group' },
};

/** The group sizes for which vLLM's weight-only integer kernels exist; -1: one scale for a whole row. */
const groupSizes = [32, 64, 128];
const grouped: readonly Method[] = ['w8a16', 'w4a16', 'w4a16-asym'];

/** The scheme of a method. A group size that it cannot have, or that vLLM has no kernel for, is a `usage` error. */
export function schemeOf(method: Method, { groupSize }: { groupSize?: number | undefined } = {}): Scheme {
  const scheme = schemes[method];
  if (groupSize === undefined || groupSize === scheme.groupCols) return { id: method, method, ...scheme };
  const refuse = (cause: string, hint: string) => new StepError('usage', `failed to read --group-size ${groupSize}: ${cause}`, { hint });
  if (!grouped.includes(method)) throw refuse(`${method} has a fixed way to share scales`, `leave it out, or take ${grouped.join(', ')}`);
  // Zero points of whole rows: no reference answer exists to hold them to.
  const sizes = scheme.symmetric ? [...groupSizes, -1] : groupSizes;
  if (!sizes.includes(groupSize)) throw refuse(`${method} takes ${sizes.join(', ')}`, 'the default is 128');
  const id = groupSize === -1 ? `${method}-channel` : `${method}-g${groupSize}`;
  return { id, method, ...scheme, groupCols: groupSize === -1 ? 0 : groupSize };
}

/** Bits of one weight. */
export function bitsOf(scheme: Scheme): 4 | 8 {
  return scheme.code === 'int4' || scheme.code === 'e2m1' ? 4 : 8;
}

/** How many rows must come together, or the rest of the tensor: 128 for square blocks, 8 where zero points of 8 rows share a word. */
export function rowBlock(scheme: Scheme): number {
  return scheme.symmetric ? scheme.groupRows : 32 / bitsOf(scheme);
}

/** Why a weight of that shape ([rows, columns]) cannot take the scheme; undefined when it can. */
export function fits(scheme: Scheme, shape: readonly number[]): string | undefined {
  const [rows = 0, cols = 0] = shape;
  if (shape.length !== 2) return `it has ${shape.length} dimensions, not 2`;
  if (rows === 0 || cols === 0) return 'it has no elements';
  const { groupRows, groupCols, symmetric, format } = scheme;
  if (groupRows === 1 && groupCols > 0 && cols % groupCols !== 0)
    return `its ${cols} columns are not a multiple of the group size ${groupCols}`;
  const perWord = 32 / bitsOf(scheme);
  // vLLM makes room for floor(columns / weights in a word) words, and for zero points in the same way.
  if (format === 'pack-quantized' && cols % perWord !== 0) return `its ${cols} columns are not a multiple of ${perWord}`;
  if (!symmetric && rows % perWord !== 0) return `its ${rows} rows are not a multiple of ${perWord}`;
  return undefined;
}

interface Args {
  num_bits: number;
  type: 'int' | 'float';
  symmetric: boolean;
  strategy: string;
  dynamic: boolean;
  group_size?: number;
  block_structure?: number[];
  scale_dtype?: string;
}

export interface QuantizationConfig {
  quant_method: 'compressed-tensors';
  format: string;
  quantization_status: 'compressed';
  ignore: readonly string[];
  config_groups: { group_0: { targets: string[]; weights: Args; input_activations?: Args } };
}

/**
 * `quantization_config` of config.json in the short form: keys at their default are left out, because releases of compressed-tensors refuse keys
 * that are newer than they are (scale_dtype came with 0.13, so it stands only where it must). `ignore`: module names or `re:` patterns.
 */
export function quantizationConfig(scheme: Scheme, ignore: readonly string[]): QuantizationConfig {
  const { code, scale, symmetric, groupRows, groupCols, format, activations } = scheme;
  const kind = { num_bits: bitsOf(scheme), type: code.startsWith('int') ? 'int' : 'float' } as const;
  const scaleDtype = { float: {}, e4m3: { scale_dtype: 'torch.float8_e4m3fn' }, e8m0: { scale_dtype: 'torch.uint8' } }[scale];
  const strategy = () => {
    if (groupRows > 1) return { strategy: 'block', block_structure: [groupRows, groupCols] };
    if (groupCols === 0) return { strategy: 'channel' };
    return { strategy: scale === 'e4m3' ? 'tensor_group' : 'group', group_size: groupCols };
  };
  const weights: Args = { ...kind, symmetric, ...strategy(), dynamic: false, ...scaleDtype };
  const group = activations === 'group' ? { group_size: groupCols } : {};
  const inputs = activations && { ...kind, symmetric: true, strategy: activations, ...group, dynamic: true, ...scaleDtype };
  return {
    quant_method: 'compressed-tensors',
    format,
    quantization_status: 'compressed',
    ignore,
    config_groups: { group_0: { targets: ['Linear'], weights, ...(inputs && { input_activations: inputs }) } },
  };
}
