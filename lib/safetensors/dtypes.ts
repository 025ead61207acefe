/**
 * Bits of one element, in the order in which the reference writer sorts tensors (safetensors 0.8.0, `Dtype` in tensor.rs: by alignment, then as
 * declared): the largest first.
 */
const bits = {
  U64: 64,
  I64: 64,
  F64: 64,
  C64: 64,
  F32: 32,
  U32: 32,
  I32: 32,
  BF16: 16,
  F16: 16,
  U16: 16,
  I16: 16,
  F8_E4M3: 8,
  F8_E5M2: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I8: 8,
  U8: 8,
  BOOL: 8,
  F6_E2M3: 6,
  F6_E3M2: 6,
  F4: 4,
} as const;

export type Dtype = keyof typeof bits;

const order = Object.keys(bits) as Dtype[];
const known = new Map<string, Dtype>(order.map((dtype) => [dtype, dtype]));

/** The dtype of that name; undefined when the format has none such. */
export function dtypeOf(name: string): Dtype | undefined {
  return known.get(name);
}

/** Bits of one element. */
export function bitsOf(dtype: Dtype): number {
  return bits[dtype];
}

/** Sorts dtypes as the reference writer does: so every element lies at a multiple of its size. */
export function compareDtypes(a: Dtype, b: Dtype): number {
  return order.indexOf(a) - order.indexOf(b);
}

/** Bytes that a tensor takes; undefined when that is no whole number of bytes, or more than 2^53 - 1. */
export function tensorBytes(dtype: Dtype, shape: readonly number[]): number | undefined {
  if (shape.includes(0)) return 0;
  let elements = 1;
  for (const dim of shape) {
    elements *= dim;
    // A double holds any product up to here exactly, so none that is too large passes.
    if (elements > Number.MAX_SAFE_INTEGER / 8) return undefined;
  }
  const size = (elements * bits[dtype]) / 8;
  return Number.isInteger(size) ? size : undefined;
}
