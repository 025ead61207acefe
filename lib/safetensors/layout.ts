import { StepError } from '../errors.ts';
import { compareDtypes, type Dtype, tensorBytes } from './dtypes.ts';
import type { StoredTensor } from './header.ts';

/** A tensor that is to be written. */
export interface NewTensor {
  name: string;
  dtype: Dtype;
  shape: readonly number[];
}

export interface Layout {
  /** All that stands before the first tensor's bytes: length and JSON. */
  head: Buffer;
  /** In the order of their bytes. */
  tensors: StoredTensor[];
  /** Bytes of the whole file. */
  size: number;
  /** Bytes of the tensors alone. */
  dataBytes: number;
}

const unit = 8;

/**
 * Lays a safetensors file out before any value is known. Tensors stay in the order given, which is the one in which their bytes come, so that a
 * file is hashed and sent while it is written; those whose bytes are no multiple of 8 stand behind the others, by alignment, dtype and name as the
 * reference writer sorts them. So every element lies at a multiple of its size. `format: pt` is set when the metadata does not say it.
 */
export function layOut(given: readonly NewTensor[], metadata: ReadonlyMap<string, string>): Layout {
  const sized = given.map((tensor) => ({ ...tensor, size: sizeOf(tensor) }));
  const even = sized.filter(({ size }) => size % unit === 0);
  const uneven = sized
    .filter(({ size }) => size % unit !== 0)
    .sort((a, b) => compareDtypes(a.dtype, b.dtype) || (a.name < b.name ? -1 : 1));
  const format = metadata.has('format') ? [] : [['format', 'pt'] as const];
  const rows = [`"__metadata__":${object([...metadata, ...format].map(([key, value]) => [key, JSON.stringify(value)]))}`];
  const tensors: StoredTensor[] = [];
  let end = 0;
  for (const { name, dtype, shape, size } of [...even, ...uneven]) {
    rows.push(`${JSON.stringify(name)}:{"dtype":"${dtype}","shape":[${shape.join(',')}],"data_offsets":[${end},${end + size}]}`);
    tensors.push({ name, dtype, shape, offset: end, size });
    end += size;
  }
  const json = Buffer.from(`{${rows.join(',')}}`);
  const head = Buffer.alloc(8 + Math.ceil(json.length / unit) * unit, ' ');
  head.writeBigUInt64LE(BigInt(head.length - 8));
  json.copy(head, 8);
  for (const tensor of tensors) tensor.offset += head.length;
  return { head, tensors, size: head.length + end, dataBytes: end };
}

function sizeOf({ name, dtype, shape }: NewTensor): number {
  const size = tensorBytes(dtype, shape);
  if (size === undefined) throw new StepError('bug', `failed to lay out ${name}: ${dtype} [${shape.join(',')}] has no whole size`);
  return size;
}

function object(pairs: readonly (readonly [string, string])[]): string {
  return `{${pairs.map(([key, value]) => `${JSON.stringify(key)}:${value}`).join(',')}}`;
}
