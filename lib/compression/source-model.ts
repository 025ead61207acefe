import { createHash } from 'node:crypto';
import { StepError } from '../errors.ts';
import { sha256Of } from '../integrity.ts';
import type { Manifest, ManifestFile } from '../manifest.ts';
import type { ByteSource } from '../publish/send.ts';
import type { ModelFacts, ModelTensor } from '../quantization/weights.ts';
import { type Header, readHeaderFrom } from '../safetensors/header.ts';
import { type Json, JsonFault, type JsonObject, parseStrictJson } from '../safetensors/strict-json.ts';
import { indexName, parseIndex } from '../safetensors/weight-index.ts';
import { isOtherWeights } from '../selection.ts';
import { mapLimited } from '../transfer/pool.ts';

/** Where a model's files are read from. */
export interface SourceFiles {
  open(file: ManifestFile): Promise<ByteSource>;
  /** What helps where a file's bytes are not those of the manifest. */
  hint: string;
}

/** One safetensors file of the model, and the tensors in it. */
export interface Shard extends ManifestFile {
  header: Header;
  /** sha256 of all bytes before the first tensor's, bare hex: what is planned is only good for exactly these. */
  headSha256: string;
  tensors: ModelTensor[];
}

/** A model as far as its headers tell. */
export interface SourceModel {
  source: SourceFiles;
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

/** So many headers are read at once. */
const readsAtOnce = 8;

/** Reads config, index and headers, no weight. Throws `refused` for a model that is none or is quantized already, `integrity` for broken files. */
export async function readSourceModel(source: SourceFiles, { files }: Manifest, signal: AbortSignal): Promise<SourceModel> {
  const byPath = new Map(files.map((file) => [file.path, file]));
  const read = async (path: string) => {
    const file = byPath.get(path);
    return file && (await readSmall(source, file, signal));
  };
  const config = await read(configName);
  if (config === undefined) throw refuse('it has no config.json', 'only models for transformers and vLLM are compressed');
  const facts = factsOf(config);
  const index = await read(indexName);
  const weightMap = index && parseIndex(index, indexName);
  const names = weightMap ? [...new Set(weightMap.values())] : files.map(({ path }) => path).filter(isWeights);
  if (names.length === 0) throw refuse('it has no safetensors weights', 'download it with its *.safetensors files');
  const weights = names.sort().map((name) => {
    const file = byPath.get(name);
    if (file) return file;
    throw new StepError('integrity', `failed to compress the model: ${name} is missing, which ${indexName} names`, {
      hint: 'take the model with all of its *.safetensors files',
    });
  });
  const shards = await mapLimited(weights, readsAtOnce, (file) => readShard(source, file, signal));
  checkTensors(shards, weightMap);
  const taken = new Set([configName, indexName, ...names]);
  const rest = files.filter(({ path }) => !taken.has(path));
  const isDropped = ({ path }: ManifestFile) => isOtherWeights(path) || /^[^/]*\.safetensors(\.index\.json)?$/.test(path);
  return {
    source,
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

async function readSmall({ open, hint }: SourceFiles, file: ManifestFile, signal: AbortSignal): Promise<Buffer> {
  const { path, size, sha256 } = file;
  if (size > maxJsonBytes) throw new StepError('integrity', `failed to read ${path}: it has ${size} bytes`);
  const bytes = Buffer.alloc(size);
  const source = await open(file);
  await source.read(0, bytes, signal).finally(() => source.close());
  if (sha256Of(bytes) === sha256) return bytes;
  throw new StepError('integrity', `failed to read ${path}: its bytes are not those of the manifest`, { hint });
}

async function readShard({ open }: SourceFiles, file: ManifestFile, signal: AbortSignal): Promise<Shard> {
  const source = await open(file);
  const hash = createHash('sha256');
  const read = async (offset: number, into: Buffer) => {
    await source.read(offset, into, signal);
    hash.update(into);
  };
  const header = await readHeaderFrom(read, file.size, file.path).finally(() => source.close());
  const tensors = header.tensors.map((tensor) => ({ ...tensor, file: file.path }));
  return { ...file, header, headSha256: hash.digest('hex'), tensors };
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
