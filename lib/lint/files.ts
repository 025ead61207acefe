import { dirname, posix } from 'node:path';
import { showBytes } from '../units.ts';
import type { Finding, LintFile, LintModel, LintProfile } from './model.ts';

const safetensors = /\.safetensors$/;
const anyWeights = /\.(safetensors|bin|pt|pth|gguf|tensors)$/i;
const consolidated = /^consolidated[^/]*\.safetensors$/;
const archive = /\.(tar|tar\.(gz|bz2|xz|zst)|tgz|zip|7z|zst)$/i;
const tokenizer =
  /^(tokenizer\.json|tokenizer\.model|tekken\.json|vocab\.(json|txt)|spiece\.model|.*\.tiktoken|sentencepiece\.bpe\.model)$/;
/** What vLLM fetches beside its weights though it reads none of it (field: its pull leaves out *.pt, *.safetensors, *.bin, *.tensors and *.pth alone). */
const useless = /\.(gguf|onnx|onnx_data|h5|msgpack|ot|tflite|png|jpe?g|gif|mp4|pdf)$|^(original|onnx|openvino|coreml)\//i;

/** Rules about which files there are. */
export function fileRules(model: LintModel, profile: LintProfile): Finding[] {
  return [...shardRules(model), ...presenceRules(model, profile), ...(profile === 'all' ? [] : prefixRules(model, profile))];
}

/** Every shard that an index names is there, and no number of a numbered set is missing. */
function shardRules({ files, json }: LintModel): Finding[] {
  const there = new Set(files.map(({ path }) => path));
  const findings: Finding[] = [];
  for (const [path, index] of json) {
    if (!path.endsWith('.index.json')) continue;
    const map = index?.weight_map;
    if (typeof map !== 'object' || map === null) {
      findings.push(error('index', `${path} is no index: it has no weight_map`));
      continue;
    }
    const shards = new Set(Object.values(map as Record<string, unknown>).map((name) => posix.join(dirname(path), String(name))));
    const missing = [...shards].filter((shard) => !there.has(shard)).sort();
    // The other set of weights is often left out on purpose, its index not.
    const left = missing.length === shards.size && !/safetensors/.test(path);
    if (missing.length > 0 && !left) findings.push(error('shards', `${path} names shards that are missing: ${some(missing)}`));
  }
  const sets = new Map<string, { total: number; numbers: Set<number> }>();
  for (const { path } of files) {
    const [, stem, number, total, ending] = /^(.*?)-?(\d{5})-of-(\d{5})\.(safetensors|bin|gguf)$/.exec(path) ?? [];
    if (stem === undefined) continue;
    const key = `${stem}-*-of-${total}.${ending}`;
    const set = sets.get(key) ?? { total: Number(total), numbers: new Set() };
    sets.set(key, set);
    set.numbers.add(Number(number));
  }
  for (const [key, { total, numbers }] of sets) {
    if (numbers.size < total) findings.push(error('shards', `${key}: ${numbers.size} of ${total} shards are there`));
  }
  return findings;
}

function presenceRules({ files, json }: LintModel, profile: LintProfile): Finding[] {
  const paths = files.map(({ path }) => path);
  const findings: Finding[] = [];
  const severe = profile === 'all' ? warning : error;
  if (!paths.some((path) => anyWeights.test(path))) findings.push(error('weights', 'there are no weights'));
  if (!paths.includes('config.json')) {
    if (paths.includes('params.json'))
      findings.push(warning('config', "config.json is missing: vLLM reads Mistral's params.json with --config-format mistral"));
    else findings.push(severe('config', 'config.json is missing'));
  } else if (json.get('config.json') === undefined) findings.push(error('config', 'config.json is no JSON object'));
  if (!paths.some((path) => tokenizer.test(path)))
    findings.push(severe('tokenizer', 'there is no tokenizer: a server must be given another one'));
  const modules = remoteModules(json.get('config.json'));
  const lost = modules.filter((path) => !paths.includes(path));
  if (lost.length > 0) findings.push(severe('remote-code', `config.json names code that is missing: ${some(lost)}`));
  else if (modules.length > 0)
    findings.push(warning('remote-code', `it brings code of its own (${some(modules)}): servers need --trust-remote-code`));
  return findings;
}

/** What readers of a whole prefix stumble over. */
function prefixRules({ files }: LintModel, profile: LintProfile): Finding[] {
  const findings: Finding[] = [];
  const root = files.filter(({ path }) => !path.includes('/') && safetensors.test(path));
  const extra = root.filter(({ path }) => consolidated.test(path));
  if (extra.length > 0 && extra.length < root.length) {
    // Run:ai's streamer takes every *.safetensors right below the prefix (vllm#40765).
    const severity = profile === 'vllm' || profile === 'runai' ? error : warning;
    findings.push(
      severity('second-weights', `two sets of weights: ${some(extra.map(({ path }) => path))} beside ${root.length - extra.length} others`),
    );
  }
  if (profile === 'runai' && root.length === 0) {
    findings.push(error('streamer', 'no *.safetensors lies right below the prefix: the Run:ai streamer looks nowhere else'));
  }
  const archives = files.filter(({ path }) => archive.test(path)).map(({ path }) => path);
  if (archives.length > 0) {
    const why = profile === 'kserve' && files.length === 1 ? 'KServe unpacks it' : 'every pod fetches it for nothing';
    findings.push(warning('archives', `archives: ${some(archives)}: ${why}`));
  }
  const wasted = files.filter(({ path }) => useless.test(path) || (root.length > 0 && /\.(bin|pt|pth)$/i.test(path)));
  if (wasted.length > 0) {
    findings.push(warning('waste', `${showBytes(sum(wasted))} that no server needs: ${some(wasted.map(({ path }) => path))}`));
  }
  const empty = files.filter(({ size }) => size === 0).map(({ path }) => path);
  if (profile === 'kserve' && empty.length > 0) findings.push(warning('empty', `KServe does not bring empty files: ${some(empty)}`));
  if (profile === 'ray' && files.some(({ path }) => path === 'hash')) {
    findings.push(error('hash', 'the model has a file named hash: Ray LLM reads it as the commit'));
  }
  return findings;
}

/** `auto_map` of config.json: `{AutoConfig: "module.Class"}`, or `org/repo--module.Class` for code that lies elsewhere. */
function remoteModules(config: Record<string, unknown> | undefined): string[] {
  const map = config?.auto_map;
  if (typeof map !== 'object' || map === null) return [];
  const names = Object.values(map)
    .flat()
    .filter((name): name is string => typeof name === 'string' && !name.includes('--'));
  return [...new Set(names.map((name) => `${name.split('.')[0]}.py`))].sort();
}

function error(rule: string, text: string): Finding {
  return { severity: 'error', rule, text };
}

function warning(rule: string, text: string): Finding {
  return { severity: 'warning', rule, text };
}

function some(paths: readonly string[]): string {
  return paths.slice(0, 3).join(', ') + (paths.length > 3 ? ` and ${paths.length - 3} more` : '');
}

function sum(files: readonly LintFile[]): number {
  return files.reduce((total, { size }) => total + size, 0);
}
