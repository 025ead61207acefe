/**
 * Checkpoints whose every byte follows from their names by integer hashing, with rows of awkward numbers: the answers of the reference to exactly these
 * are in test/golden. A number is (the sum of four 24-bit hashes - 2^25) * 2^-29, rounded to float32 and then to the checkpoint's type.
 */
import { bitsIn, type FloatType } from '../../../lib/quantization/floats.ts';

export interface CheckpointConfig {
  hidden_size: number;
  intermediate_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  num_key_value_heads: number;
  head_dim: number;
  vocab_size: number;
  tie_word_embeddings: boolean;
  num_experts?: number;
  moe_intermediate_size?: number;
  [key: string]: unknown;
}

export interface Checkpoint {
  /** As config.json has it. */
  config: CheckpointConfig;
  dtype: FloatType;
  shards: number;
}

export interface CheckpointTensor {
  name: string;
  dtype: FloatType;
  shape: number[];
  bytes: Buffer;
}

const llama = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  hidden_act: 'silu',
  hidden_size: 256,
  intermediate_size: 384,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 64,
  vocab_size: 320,
  max_position_embeddings: 256,
  rms_norm_eps: 1e-5,
  rope_theta: 10000.0,
  attention_bias: false,
  mlp_bias: false,
  tie_word_embeddings: false,
  initializer_range: 0.02,
  bos_token_id: 1,
  eos_token_id: 2,
  use_cache: true,
  dtype: 'bfloat16',
};

export type CheckpointName = 'llama-bf16' | 'llama-bf16-sharded' | 'llama-f16' | 'llama-f32' | 'odd-bf16' | 'moe-bf16';

export const checkpoints: Record<CheckpointName, Checkpoint> = {
  'llama-bf16': { config: llama, dtype: 'BF16', shards: 1 },
  /** q_proj and k_proj of the first layer lie in different shards. */
  'llama-bf16-sharded': { config: llama, dtype: 'BF16', shards: 3 },
  'llama-f16': { config: { ...llama, dtype: 'float16' }, dtype: 'F16', shards: 1 },
  'llama-f32': { config: { ...llama, dtype: 'float32' }, dtype: 'F32', shards: 1 },
  /** Widths that are multiples of 16 but not of 128; no lm_head, as embeddings are tied. */
  'odd-bf16': {
    config: { ...llama, hidden_size: 160, intermediate_size: 208, num_key_value_heads: 1, head_dim: 40, tie_word_embeddings: true },
    dtype: 'BF16',
    shards: 1,
  },
  'moe-bf16': {
    config: {
      ...llama,
      architectures: ['Qwen3MoeForCausalLM'],
      model_type: 'qwen3_moe',
      hidden_size: 128,
      num_hidden_layers: 1,
      num_attention_heads: 2,
      num_key_value_heads: 1,
      num_experts: 4,
      num_experts_per_tok: 2,
      moe_intermediate_size: 128,
      decoder_sparse_step: 1,
      norm_topk_prob: true,
      mlp_only_layers: [],
    },
    dtype: 'BF16',
    shards: 1,
  },
};

/** All tensors of a checkpoint, in the order of its file. */
export function checkpointTensors(name: CheckpointName): CheckpointTensor[] {
  const { config, dtype } = checkpoints[name];
  return shapes(config).map(([tensor, shape]) => ({ name: tensor, dtype, shape, bytes: encoded(numbers(name, tensor, shape), dtype) }));
}

/** The files of a checkpoint by name: config.json, one safetensors file or three and their index. */
export function checkpointFiles(name: CheckpointName): Map<string, Buffer> {
  const { config, shards } = checkpoints[name];
  const tensors = checkpointTensors(name);
  const files = new Map<string, Buffer>([['config.json', Buffer.from(JSON.stringify(config, null, 2))]]);
  if (shards === 1) return files.set('model.safetensors', fileOf(tensors));
  const cuts = [0, 3, tensors.length - 6, tensors.length];
  const weightMap: Record<string, string> = {};
  for (let shard = 1; shard <= shards; shard += 1) {
    const file = `model-0000${shard}-of-0000${shards}.safetensors`;
    const part = tensors.slice(cuts[shard - 1], cuts[shard]);
    files.set(file, fileOf(part));
    for (const tensor of part) weightMap[tensor.name] = file;
  }
  const index = { metadata: { total_size: tensors.reduce((sum, { bytes }) => sum + bytes.length, 0) }, weight_map: weightMap };
  return files.set('model.safetensors.index.json', Buffer.from(JSON.stringify(index, null, 2)));
}

/** A safetensors file of those tensors, in that order. */
export function fileOf(tensors: readonly CheckpointTensor[]): Buffer {
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } };
  let end = 0;
  for (const { name, dtype, shape, bytes } of tensors) {
    header[name] = { dtype, shape, data_offsets: [end, end + bytes.length] };
    end += bytes.length;
  }
  const text = JSON.stringify(header);
  const head = Buffer.alloc(8 + Math.ceil(text.length / 8) * 8, ' ');
  head.writeBigUInt64LE(BigInt(head.length - 8));
  head.write(text, 8);
  return Buffer.concat([head, ...tensors.map(({ bytes }) => bytes)]);
}

function shapes(config: CheckpointConfig): [string, number[]][] {
  const { hidden_size: hidden, intermediate_size: intermediate, vocab_size: vocab, head_dim: headDim } = config;
  const [q, kv] = [config.num_attention_heads * headDim, config.num_key_value_heads * headDim];
  const mlp = (prefix: string, width: number): [string, number[]][] => [
    [`${prefix}.gate_proj.weight`, [width, hidden]],
    [`${prefix}.up_proj.weight`, [width, hidden]],
    [`${prefix}.down_proj.weight`, [hidden, width]],
  ];
  const list: [string, number[]][] = [['model.embed_tokens.weight', [vocab, hidden]]];
  for (let i = 0; i < config.num_hidden_layers; i += 1) {
    const layer = `model.layers.${i}`;
    list.push(
      [`${layer}.input_layernorm.weight`, [hidden]],
      [`${layer}.self_attn.q_proj.weight`, [q, hidden]],
      [`${layer}.self_attn.k_proj.weight`, [kv, hidden]],
      [`${layer}.self_attn.v_proj.weight`, [kv, hidden]],
      [`${layer}.self_attn.o_proj.weight`, [hidden, q]],
      [`${layer}.post_attention_layernorm.weight`, [hidden]],
    );
    const { num_experts: experts, moe_intermediate_size: width = 0 } = config;
    if (experts === undefined) list.push(...mlp(`${layer}.mlp`, intermediate));
    else {
      list.push([`${layer}.self_attn.q_norm.weight`, [headDim]], [`${layer}.self_attn.k_norm.weight`, [headDim]]);
      list.push([`${layer}.mlp.gate.weight`, [experts, hidden]]);
      for (let expert = 0; expert < experts; expert += 1) list.push(...mlp(`${layer}.mlp.experts.${expert}`, width));
    }
  }
  list.push(['model.norm.weight', [hidden]]);
  if (!config.tie_word_embeddings) list.push(['lm_head.weight', [vocab, hidden]]);
  return list;
}

function numbers(checkpoint: CheckpointName, tensor: string, shape: readonly number[]): Float64Array {
  const values = hashed(
    `${checkpoint.split('-')[0]}/${tensor}`,
    shape.reduce((a, b) => a * b, 1),
  );
  if (shape.length === 1) for (let i = 0; i < values.length; i += 1) values[i]! += 1;
  if (tensor === 'model.layers.1.mlp.down_proj.weight' && String(shape) === '256,384') edgeRows(values, 384);
  return values;
}

/** Roughly normal numbers with a standard deviation of 0.018, none as large as 0.0625. */
function hashed(name: string, count: number): Float64Array {
  const seed = fnv1a(name);
  const values = new Float64Array(count);
  for (let i = 0; i < count; i += 1) {
    let total = 0;
    for (let k = 1; k <= 4; k += 1) total += lowbias32((i + seed) ^ Math.imul(0x9e3779b9, k)) >>> 8;
    values[i] = (total - 2 ** 25) * 2 ** -29;
  }
  return values;
}

function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(text)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

function lowbias32(value: number): number {
  let x = value;
  x ^= x >>> 16;
  x = Math.imul(x, 0x7feb352d);
  x ^= x >>> 15;
  x = Math.imul(x, 0x846ca68b);
  return x ^ (x >>> 16);
}

/** The first thirteen rows: zeros, halves of every format, subnormals, an outlier, and what lies around each type's smallest normal. */
function edgeRows(values: Float64Array, width: number): void {
  const row = (index: number, value: (col: number, old: number) => number) => {
    for (let col = 0; col < width; col += 1) values[index * width + col] = value(col, values[index * width + col]!);
  };
  const ties8 = [448, 17, 19, 21, 23, 25, 27, 29, 31, 2 ** -10, 3 * 2 ** -10, 0.0146484375, 240, 232];
  const ties4 = [6, 5, 3.5, 2.5, 1.75, 1.25, 0.75, 0.25, -6, -5, -3.5, -2.5, -1.75, -1.25, -0.75, -0.25];
  const [half, single] = [2 ** -14, 2 ** -126];
  const tiny = [2 ** -15, 0.8 * half, 0.7 * half, 2 ** -24, 3e-8, half, 0.8 * single, 0.7 * single, single, 2 ** -133, 1e-42, 0];
  row(0, () => 0);
  row(1, (col, old) => (col < 128 ? 0 : old));
  row(2, (_, old) => -Math.abs(old));
  row(3, (col) => (col % 2 === 0 ? -0 : 0));
  row(4, (col) => ((col % 15) - 7.5) * 2 ** -6);
  row(5, (col) => ((col % 255) - 127.5) * 2 ** -9);
  row(6, (col) => (col % 3 === 0 ? -1 : 1) * ties8[col % ties8.length]! * 2 ** -12);
  row(7, (col) => ties4[col % 16]! * 2 ** -8);
  row(8, (col) => (col === 5 ? 1e-39 : 3e-40));
  row(9, (col, old) => (col === 7 ? 1e-30 : old * 1e-28));
  row(10, (col, old) => (col === 17 ? 16 : old));
  row(11, (_, old) => Math.abs(old));
  row(12, (col) => tiny[Math.floor(col / 32)]! * (col % 2 === 0 ? -1 : 1));
}

function encoded(values: Float64Array, dtype: FloatType): Buffer {
  const size = dtype === 'F32' ? 4 : 2;
  const bytes = Buffer.alloc(values.length * size);
  for (let i = 0; i < values.length; i += 1) {
    const bits = bitsIn(dtype, Math.fround(values[i]!));
    if (size === 4) bytes.writeInt32LE(bits, i * 4);
    else bytes.writeUInt16LE(bits, i * 2);
  }
  return bytes;
}
