import { StepError } from './errors.ts';
import { globMatcher } from './glob.ts';

export interface SelectionOptions {
  allowPatterns: readonly string[];
  ignorePatterns: readonly string[];
  profile: 'all' | 'vllm' | 'runai' | 'kserve' | 'ray';
}

/**
 * The files of a listing that were asked for: patterns as in huggingface_hub, then the profile over what they leave.
 * Throws `not-found` with the patterns and what is there when nothing is left.
 */
export function selectFiles<F extends { path: string }>(files: readonly F[], options: SelectionOptions): F[] {
  const { allowPatterns, ignorePatterns, profile } = options;
  const allow = allowPatterns.map(globMatcher);
  const ignore = ignorePatterns.map(globMatcher);
  const wanted = files.filter(
    ({ path }) => (allow.length === 0 || allow.some((matches) => matches(path))) && !ignore.some((matches) => matches(path)),
  );
  const keep = profile !== 'all' ? forVllm(wanted.map(({ path }) => path)) : () => true;
  const selected = wanted.filter(({ path }) => keep(path));
  if (selected.length === 0) throw nothingLeft(files, options);
  return selected;
}

/** Weights that vLLM does not read beside safetensors, and what is no weights at all. */
const otherWeights = /\.(bin|pt|pth|ckpt|gguf|onnx|onnx_data|h5|msgpack|ot|tflite|mlmodel|npz)(\.index\.json)?$/i;
const otherFormats = /^(original|metal|onnx|openvino|coreml)\//;
const noWeights = /\.(png|jpe?g|gif|webp|svg|bmp|ico|avif|mp[34]|wav|flac|mov|webm|pdf)$|(^|\/)\.git(attributes|ignore|keep)$|tfevents/i;
const consolidated = /^consolidated[^/]*\.safetensors(\.index\.json)?$/;
/** A sentence-transformers module such as `2_Dense` may have its weights in this one file, which vLLM does read. */
const moduleWeights = /^\d+_[^/]+\/pytorch_model\.bin$/;

/** True for weights in a format that vLLM does not read where a model has safetensors. */
export function isOtherWeights(path: string): boolean {
  return (otherWeights.test(path) && !moduleWeights.test(path)) || otherFormats.test(path);
}

/** Which part of a model is wanted: for a tokenizer alone, or for all that is no weights, nobody needs to wait for the weights. */
export type Part = 'all' | 'tokenizer' | 'config';

const weights = /\.(safetensors|tensors|nemo)(\.index\.json)?$/i;
const tokenizerFiles =
  /tokenizer|config\.json$|(^|\/)(vocab[^/]*|merges\.txt|[^/]*token[^/]*\.json|[^/]*\.tiktoken|[^/]*\.model|chat_template[^/]*)$/i;

/** The files of that part. Throws `not-found` when the model has none. */
export function selectPart<F extends { path: string }>(files: readonly F[], part: Part): F[] {
  if (part === 'all') return [...files];
  const isWeights = (path: string) => weights.test(path) || otherWeights.test(path) || otherFormats.test(path);
  const selected = files.filter(({ path }) => !isWeights(path) && (part === 'config' || tokenizerFiles.test(path)));
  if (selected.length > 0) return selected;
  throw new StepError('not-found', `failed to select the ${part}: the model has no such file`, { hint: '--select all takes every file' });
}

/**
 * For every server alike, since vLLM is what reads the model under each of them: one set of weights, and nothing that every pod would fetch for nothing. Run:ai's streamer, and vLLM with it, takes every *.safetensors
 * right below the prefix: Mistral's consolidated ones beside the others break it (vllm#40765), and all else is fetched for the tokenizer.
 */
function forVllm(paths: readonly string[]): (path: string) => boolean {
  const there = new Set(paths);
  const own = paths.filter((path) => /^[^/]*\.safetensors$/.test(path));
  const hasOwn = own.some((path) => !consolidated.test(path));
  return (path) => {
    if (noWeights.test(path)) return false;
    if (own.length === 0) return true;
    if (hasOwn && consolidated.test(path)) return false;
    if (moduleWeights.test(path)) return !there.has(path.replace('pytorch_model.bin', 'model.safetensors'));
    return !otherWeights.test(path) && !otherFormats.test(path);
  };
}

function nothingLeft(files: readonly { path: string }[], { allowPatterns, ignorePatterns, profile }: SelectionOptions): StepError {
  const asked = [
    ...(allowPatterns.length > 0 ? [`--allow-patterns ${allowPatterns.join(' ')}`] : []),
    ...(ignorePatterns.length > 0 ? [`--ignore-patterns ${ignorePatterns.join(' ')}`] : []),
    ...(profile === 'all' ? [] : [`--profile ${profile}`]),
  ];
  if (asked.length === 0) return new StepError('not-found', 'failed to select files: the model has none at this commit');
  const shown = files.slice(0, 10).map(({ path }) => path);
  const more = files.length > shown.length ? ` and ${files.length - shown.length} more` : '';
  return new StepError('not-found', `failed to select files: none of ${files.length} is left by ${asked.join(', ')}`, {
    hint: `there are ${shown.join(', ')}${more}; patterns are matched with the whole path, and * crosses folders`,
  });
}
