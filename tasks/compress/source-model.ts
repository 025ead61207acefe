import { open, readFile } from 'node:fs/promises';
import { StepError } from '../../lib/errors.ts';
import { sha256Of } from '../../lib/integrity.ts';
import type { Manifest, ManifestFile } from '../../lib/manifest.ts';
import type { ModelFacts, ModelTensor } from '../../lib/quantization/weights.ts';
import { type Header, readHeader } from '../../lib/safetensors/header.ts';
import { type Json, JsonFault, type JsonObject, parseStrictJson } from '../../lib/safetensors/strict-json.ts';
import { indexName, parseIndex } from '../../lib/safetensors/weight-index.ts';
import { isOtherWeights } from '../../lib/selection.ts';
import { safeJoin } from '../../lib/workspace.ts';

/** One safetensors file of the model, and the tensors in it. */
export interface Shard extends ManifestFile {
  header: Header;
  tensors: ModelTensor[];
}

/** A model in the workspace as far as its headers tell. */
export interface SourceModel {
  filesDir: string;
  shards: Shard[];
  /** config.json as it is. */
  config: Buffer;
  facts: ModelFacts;
  /** Files that belong to the model besides its weights and their index. */
  others: ManifestFile[];
  /** Weights in other formats or of no index: they would be those of the model as it was. */
  dropped: string[];
}

/** No config is as large; an index of millions of tensors is smaller. */
const maxJsonBytes = 256 * 1024 ** 2;
export const configName = 'config.json';

/** Reads config, index and headers, no weight. Throws `refused` for a model that is none or is quantized already, `integrity` for broken files. */
export async function readSourceModel(filesDir: string, { files }: Manifest): Promise<SourceModel> {
  const byPath = new Map(files.map((file) => [file.path, file]));
  const read = async (path: string) => {
    const file = byPath.get(path);
    return file && (await readSmall(filesDir, file));
  };
  const config = await read(configName);
  if (config === undefined) throw refuse('it has no config.json', 'only models for transformers and vLLM are compressed');
  const facts = factsOf(config);
  const index = await read(indexName);
  const weightMap = index && parseIndex(index, indexName);
  const names = weightMap ? [...new Set(weightMap.values())] : files.map(({ path }) => path).filter(isWeights);
  if (names.length === 0) throw refuse('it has no safetensors weights', 'download it with its *.safetensors files');
  const shards: Shard[] = [];
  for (const name of names.sort()) {
    const file = byPath.get(name);
    if (file === undefined) {
      throw new StepError('integrity', `failed to compress the model: ${name} is missing, which ${indexName} names`, {
        hint: 'download the model with all of its *.safetensors files',
      });
    }
    shards.push(await readShard(filesDir, file));
  }
  checkTensors(shards, weightMap);
  const taken = new Set([configName, indexName, ...names]);
  const rest = files.filter(({ path }) => !taken.has(path));
  const isDropped = ({ path }: ManifestFile) => isOtherWeights(path) || /^[^/]*\.safetensors(\.index\.json)?$/.test(path);
  return {
    filesDir,
    shards,
    config,
    facts,
    others: rest.filter((file) => !isDropped(file)),
    dropped: rest.filter(isDropped).map(({ path }) => path),
  };
}

/** Weights where no index says which: those right below the model, in the format of transformers. */
function isWeights(path: string): boolean {
  return /^[^/]*\.safetensors$/.test(path) && !/^(consolidated|adapter)/.test(path);
}

async function readSmall(filesDir: string, { path, size, sha256 }: ManifestFile): Promise<Buffer> {
  if (size > maxJsonBytes) throw new StepError('integrity', `failed to read ${path}: it has ${size} bytes`);
  const bytes = await readFile(safeJoin(filesDir, path));
  if (bytes.length === size && sha256Of(bytes) === sha256) return bytes;
  throw new StepError('integrity', `failed to read ${path}: its bytes are not those of the manifest`, {
    hint: 'run download again with --verify, with the same --workspace',
  });
}

async function readShard(filesDir: string, file: ManifestFile): Promise<Shard> {
  await using handle = await open(safeJoin(filesDir, file.path), 'r');
  const { size } = await handle.stat();
  if (size !== file.size) {
    throw new StepError('integrity', `failed to read ${file.path}: it has ${size} bytes, the manifest says ${file.size}`, {
      hint: 'run download again with --verify, with the same --workspace',
    });
  }
  const header = await readHeader(handle, file.path);
  return { ...file, header, tensors: header.tensors.map((tensor) => ({ ...tensor, file: file.path })) };
}

/** A tensor stands in one file, and the index knows where. */
function checkTensors(shards: readonly Shard[], weightMap: ReadonlyMap<string, string> | undefined): void {
  const homes = new Map<string, string>();
  for (const { name, file } of shards.flatMap(({ tensors }) => tensors)) {
    const other = homes.get(name);
    if (other !== undefined) throw new StepError('integrity', `failed to read ${file}: tensor ${name} is in ${other} too`);
    homes.set(name, file);
  }
  for (const [name, file] of weightMap ?? []) {
    const home = homes.get(name);
    if (home !== file) {
      throw new StepError(
        'integrity',
        `failed to read ${file}: tensor ${name} is ${home ? `in ${home}` : 'not in it'}, ${indexName} says it is`,
      );
    }
  }
}

/** What is said of the text model, at the top or in `text_config`. Throws `refused` when the config says that the model is quantized. */
function factsOf(config: Buffer): ModelFacts {
  let parsed: Json;
  try {
    parsed = parseStrictJson(config, { python: true });
  } catch (error) {
    if (!(error instanceof JsonFault)) throw error;
    throw new StepError('integrity', `failed to read ${configName}: ${error.message}`);
  }
  if (!(parsed instanceof Map)) throw new StepError('integrity', `failed to read ${configName}: it is no object`);
  const inner = parsed.get('text_config');
  const parts: JsonObject[] = inner instanceof Map ? [parsed, inner] : [parsed];
  const quantized = parts.flatMap((part) => [...part.keys()]).find((key) => /^(quantization|compression)_config$/.test(key));
  if (quantized && parts.some((part) => part.get(quantized) instanceof Map)) {
    throw refuse(`its config has a ${quantized}: it is quantized already`, 'take the model as it was trained, or --method none');
  }
  const find = (key: string) => parts.map((part) => part.get(key)).findLast((value) => value !== undefined && value !== null);
  const number = (value: Json | undefined) => (typeof value === 'number' ? value : undefined);
  const type = find('model_type');
  return {
    modelType: typeof type === 'string' ? type : undefined,
    hiddenSize: number(find('hidden_size')),
    vocabSize: number(find('vocab_size')),
  };
}

function refuse(why: string, hint: string): StepError {
  return new StepError('refused', `failed to compress the model: ${why}`, { hint });
}
