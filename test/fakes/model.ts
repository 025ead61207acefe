import { bytesOf, type Content, type Files } from './content.ts';
import { type LlamaShape, largeShape, llamaConfig, llamaShards, tinyShape } from './model/llama.ts';
import { safetensors } from './model/safetensors.ts';
import { tinyTokenizer, tokenizerConfig, tokenizerJson } from './model/tokenizer.ts';

export interface LlamaOptions {
  /** Other weights for another seed; default 1. */
  seed?: number;
  /** Exact size in bytes of each of the two shards, made on the fly as they are read; default: a tiny model (230 kB) held in memory. */
  shardBytes?: number;
  /** Adds what real repositories also hold: original/, consolidated.safetensors, pytorch_model.bin, subfolders, names with spaces and unicode. */
  junk?: boolean;
}

/** A small but valid Llama checkpoint with two safetensors shards, its index, tokenizer, card and licence; equal options give equal bytes. */
export function tinyLlama({ seed = 1, shardBytes, junk = false }: LlamaOptions = {}): Files {
  const shape: LlamaShape = shardBytes === undefined ? tinyShape : largeShape(shardBytes);
  const files: Files = new Map<string, Content>([
    ['.gitattributes', text(gitattributes)],
    ['LICENSE', text(licence)],
    ['README.md', text(card)],
    ['config.json', json(llamaConfig(shape))],
    ['generation_config.json', json({ _from_model_config: true, bos_token_id: 256, eos_token_id: 257, transformers_version: '4.57.1' })],
    ['special_tokens_map.json', json(tinyTokenizer.specialTokensMap)],
    ['tokenizer.json', json(tokenizerJson())],
    ['tokenizer_config.json', json(tokenizerConfig())],
    ...llamaShards(shape, seed, shardBytes),
  ]);
  if (junk) for (const [path, content] of junkFiles(seed)) files.set(path, content);
  return files;
}

/** What stands in real repositories beside the model that servers read. */
function junkFiles(seed: number): [string, Content][] {
  const tensors = [{ name: 'tok_embeddings.weight', shape: [64, 64] }];
  return [
    ['consolidated.safetensors', bytesOf(safetensors(tensors, seed + 10))],
    ['original/consolidated.00.pth', bytesOf({ size: 20_000, seed: seed + 11 })],
    ['original/params.json', json({ dim: 64, n_layers: 2, n_heads: 4 })],
    ['original/tokenizer.model', bytesOf({ size: 3000, seed: seed + 12 })],
    ['pytorch_model.bin', bytesOf({ size: 20_000, seed: seed + 13 })],
    ['onnx/model.onnx', bytesOf({ size: 9000, seed: seed + 14 })],
    ['model.Q4_K_M.gguf', bytesOf({ size: 9000, seed: seed + 15 })],
    ['runs/2026-01-02/events.out.tfevents.1.host', bytesOf({ size: 500, seed: seed + 16 })],
    ['docs/Überblick – 模型 🦙.md', text('# Überblick\n')],
    ['examples/with space & plus+.txt', text('a name with a space\n')],
    ['examples/100%#1?.txt', text('a name that must be encoded in an address\n')],
    ["examples/it's (a) 'quote' [1].txt", text('a name with quotes and brackets\n')],
    ['modeling_custom.py', text('raise RuntimeError("remote code")\n')],
    ['empty.txt', Buffer.alloc(0)],
  ];
}

function text(value: string): Buffer {
  return Buffer.from(value);
}

function json(value: unknown): Buffer {
  return Buffer.from(`${JSON.stringify(value, null, 2)}\n`);
}

const card = `---
license: apache-2.0
language:
- en
library_name: transformers
pipeline_tag: text-generation
tags:
- llama
- tiny
- test
---

# Tiny Llama

A Llama with random weights and all the files of a real one. It says nothing of use, quickly.
`;

const licence = `                                 Apache License
                           Version 2.0, January 2004
                        http://www.apache.org/licenses/

Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with the License.
You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0
Unless required by applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
See the License for the specific language governing permissions and limitations under the License.
`;

const gitattributes = `${[
  '*.7z',
  '*.bin',
  '*.gguf',
  '*.h5',
  '*.model',
  '*.onnx',
  '*.ot',
  '*.pt',
  '*.pth',
  '*.safetensors',
  '*.tar.*',
  '*.zip',
  '*tfevents*',
]
  .map((pattern) => `${pattern} filter=lfs diff=lfs merge=lfs -text`)
  .join('\n')}\n`;
