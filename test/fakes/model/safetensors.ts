import type { Generated } from '../content.ts';

export interface Tensor {
  name: string;
  shape: number[];
}

/** Bytes of a bfloat16 tensor. */
export function tensorBytes({ shape }: Tensor): number {
  return shape.reduce((a, b) => a * b, 2);
}

/**
 * A safetensors file of bfloat16 tensors in the order given (https://github.com/huggingface/safetensors#format), generated as it is read.
 * `size`: the whole file's size in bytes, reached by spaces behind the header, which the format allows; it must be enough.
 */
export function safetensors(tensors: Tensor[], seed: number, size?: number): Generated {
  let end = 0;
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } };
  for (const tensor of tensors) {
    const start = end;
    end += tensorBytes(tensor);
    header[tensor.name] = { dtype: 'BF16', shape: tensor.shape, data_offsets: [start, end] };
  }
  const text = JSON.stringify(header);
  const length = size === undefined ? Math.ceil(text.length / 8) * 8 : size - end - 8;
  if (length < text.length) throw new Error(`${tensors.length} tensors of ${end} bytes do not fit into ${size} bytes`);
  const head = Buffer.alloc(8 + length, ' ');
  head.writeBigUInt64LE(BigInt(length));
  head.write(text, 8);
  return { size: head.length + end, seed, head };
}
