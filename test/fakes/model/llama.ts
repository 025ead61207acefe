import { bytesOf, type Content } from '../content.ts';
import { safetensors, type Tensor, tensorBytes } from './safetensors.ts';

/** Sizes of a Llama; the layers are shared evenly between the two shards. */
export interface LlamaShape {
  hidden: number;
  layersPerShard: number;
  vocab: number;
}

/** Rows for all tokens of the tokenizer and, as real models have, some more. */
export const tinyShape: LlamaShape = { hidden: 64, layersPerShard: 1, vocab: 320 };

/** The shape whose two shards come closest to that many bytes from below; the embedding's rows take up what layers leave over. */
export function largeShape(shardBytes: number): LlamaShape {
  for (const hidden of [2048, 1024, 512, 256, 128]) {
    const layer = layerTensors(0, hidden).reduce((sum, tensor) => sum + tensorBytes(tensor), 0);
    const layersPerShard = Math.floor((shardBytes * 0.8) / layer);
    if (layersPerShard < 1) continue;
    // Each layer's rows of the header are some 900 bytes; the final norm is in the second shard.
    const free = shardBytes - layersPerShard * (layer + 1200) - 2 * hidden - 4096;
    return { hidden, layersPerShard, vocab: Math.floor(free / (2 * hidden)) };
  }
  throw new Error(`no Llama is as small as two shards of ${shardBytes} bytes: at least 400000`);
}

/** config.json of a model of that shape, as transformers writes it. */
export function llamaConfig({ hidden, layersPerShard, vocab }: LlamaShape): object {
  const { heads, kvHeads, headDim, intermediate } = sizes(hidden);
  return {
    architectures: ['LlamaForCausalLM'],
    attention_bias: false,
    attention_dropout: 0.0,
    bos_token_id: 256,
    eos_token_id: 257,
    head_dim: headDim,
    hidden_act: 'silu',
    hidden_size: hidden,
    initializer_range: 0.02,
    intermediate_size: intermediate,
    max_position_embeddings: 512,
    mlp_bias: false,
    model_type: 'llama',
    num_attention_heads: heads,
    num_hidden_layers: 2 * layersPerShard,
    num_key_value_heads: kvHeads,
    pad_token_id: 258,
    pretraining_tp: 1,
    rms_norm_eps: 1e-5,
    rope_scaling: null,
    rope_theta: 10000.0,
    tie_word_embeddings: false,
    torch_dtype: 'bfloat16',
    transformers_version: '4.57.1',
    use_cache: true,
    vocab_size: vocab,
  };
}

/** The two shards and their index by file name; of exactly `shardBytes` each when given, generated as they are read. */
export function llamaShards({ hidden, layersPerShard, vocab }: LlamaShape, seed: number, shardBytes?: number): [string, Content][] {
  const layers = (from: number) => Array.from({ length: layersPerShard }, (_, i) => layerTensors(from + i, hidden)).flat();
  const tensors: Tensor[][] = [
    [{ name: 'model.embed_tokens.weight', shape: [vocab, hidden] }, ...layers(0)],
    [...layers(layersPerShard), { name: 'model.norm.weight', shape: [hidden] }, { name: 'lm_head.weight', shape: [vocab, hidden] }],
  ];
  const name = (shard: number) => `model-0000${shard + 1}-of-00002.safetensors`;
  const map = tensors.flatMap((list, shard) => list.map((tensor) => [tensor.name, name(shard)] as const));
  const index = {
    metadata: { total_size: tensors.flat().reduce((sum, tensor) => sum + tensorBytes(tensor), 0) },
    weight_map: Object.fromEntries(map.sort(([a], [b]) => (a < b ? -1 : 1))),
  };
  const shards = tensors.map((list, shard): [string, Content] => {
    const content = safetensors(list, seed * 100 + shard, shardBytes);
    return [name(shard), shardBytes === undefined ? withUnitNorms(list, bytesOf(content)) : content];
  });
  return [...shards, ['model.safetensors.index.json', Buffer.from(`${JSON.stringify(index, null, 2)}\n`)]];
}

function layerTensors(layer: number, hidden: number): Tensor[] {
  const { heads, kvHeads, headDim, intermediate } = sizes(hidden);
  const shapes: Record<string, number[]> = {
    input_layernorm: [hidden],
    'mlp.down_proj': [hidden, intermediate],
    'mlp.gate_proj': [intermediate, hidden],
    'mlp.up_proj': [intermediate, hidden],
    post_attention_layernorm: [hidden],
    'self_attn.k_proj': [kvHeads * headDim, hidden],
    'self_attn.o_proj': [hidden, heads * headDim],
    'self_attn.q_proj': [heads * headDim, hidden],
    'self_attn.v_proj': [kvHeads * headDim, hidden],
  };
  return Object.entries(shapes).map(([part, shape]) => ({ name: `model.layers.${layer}.${part}.weight`, shape }));
}

function sizes(hidden: number) {
  const headDim = hidden <= 64 ? 16 : 64;
  const heads = hidden / headDim;
  return { headDim, heads, kvHeads: heads / 2, intermediate: 2 * hidden };
}

/** Norms scale by one, as trained ones nearly do: with random ones the model's output would be all but zero. */
function withUnitNorms(tensors: Tensor[], file: Buffer): Buffer {
  let at = 8 + Number(file.readBigUInt64LE());
  for (const tensor of tensors) {
    const end = at + tensorBytes(tensor);
    if (tensor.name.endsWith('norm.weight')) for (let i = at; i < end; i += 2) file.writeUInt16LE(0x3f80, i);
    at = end;
  }
  return file;
}
