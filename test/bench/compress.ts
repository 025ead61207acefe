import { createWriteStream } from 'node:fs';
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { makeManifest, manifestBytes } from '../../lib/manifest.ts';
import { indexBytes, indexName } from '../../lib/safetensors/weight-index.ts';
import { modelFolder } from '../../lib/workspace.ts';
import { readRange, sha256Of } from '../fakes/content.ts';
import { safetensors, type Tensor, tensorBytes } from '../fakes/model/safetensors.ts';
import { oracleDir, referencePython } from '../oracle/programs.ts';
import { type Cost, measure, medianCost } from './measure.ts';
import { mebibytes, ratio, seconds } from './table.ts';

export const compressHead = ['method', 'program', 'wall s', 'CPU s', 'peak MiB', 'out MB', 'CPU ours/theirs', 'peak ours/theirs'];

const methods = ['fp8-dynamic', 'w4a16', 'nvfp4a16'] as const;
const everything = { allowPatterns: [], ignorePatterns: [], profile: 'all' };
export const benchSource = { repo: 'bench/llama', commit: 'b'.repeat(40) };

export interface CompressBench {
  root: string;
  programs: string;
  runs: number;
  say: (line: string) => void;
  /** Also runs llmcompressor, on one thread: its own count, without its imports. */
  reference: boolean;
}

/** 1.02 GB of bfloat16 Llama from one folder into another, by our program and by the reference in turn; medians. */
export async function compressRows({ root, programs, runs, say, reference }: CompressBench): Promise<string[][]> {
  const workspace = join(root, 'compress');
  const filesDir = await makeModel(workspace);
  const python = reference ? await referencePython() : undefined;
  const rows: string[][] = [];
  for (const method of methods) {
    const [ours, theirs]: [Measured[], Measured[]] = [[], []];
    for (let round = 0; round <= runs; round += 1) {
      const our = await runOurs(programs, workspace, method, join(root, 'log'));
      const their = python && (await runReference(python, filesDir, join(root, 'reference'), method, join(root, 'log')));
      if (round > 0) ours.push(our);
      if (round > 0 && their) theirs.push(their);
      say(
        `compress ${method}: CPU ${our.cpu.toFixed(2)} s${their ? `, reference ${their.cpu.toFixed(2)} s` : ''}${round === 0 ? ' (warm-up)' : ''}`,
      );
    }
    const [a, b] = [medianCost(ours), theirs.length > 0 ? medianCost(theirs) : undefined];
    const row = (program: string, cost: Cost, bytes = 0) => [
      method,
      program,
      seconds(cost.wall),
      seconds(cost.cpu),
      mebibytes(cost.peak),
      String(Math.round(bytes / 1e6)),
    ];
    rows.push([...row('modelferry compress', a, ours[0]?.bytes), b ? ratio(a.cpu, b.cpu) : '', b ? ratio(a.peak, b.peak) : '']);
    if (b) rows.push([...row('llmcompressor model_free_ptq', b, theirs[0]?.bytes), '', '']);
  }
  return rows;
}

interface Measured extends Cost {
  /** Of the weights that came out. */
  bytes: number;
}

async function runOurs(programs: string, workspace: string, method: string, log: string): Promise<Measured> {
  const made = modelFolder(workspace, benchSource.repo, benchSource.commit, everything, `-${method}`);
  const { manifest } = modelFolder(workspace, benchSource.repo, benchSource.commit, everything);
  await rm(made.dir, { recursive: true, force: true });
  const flags = ['--workspace', workspace, '--manifest', manifest, '--method', method, '--log-level', 'warn'];
  const cost = await measure([process.execPath, join(programs, 'compress.cjs'), ...flags], { PATH: process.env.PATH }, log);
  return { ...cost, bytes: await weightBytes(made.files) };
}

/** oracle.py says what the work cost without Python's start and imports. */
async function runReference(python: string, from: string, into: string, method: string, log: string): Promise<Measured> {
  await rm(into, { recursive: true, force: true });
  const scheme = method.toUpperCase().replace('-', '_');
  const argv = [python, join(oracleDir, 'oracle.py'), '--src', from, '--dst', into, '--scheme', scheme, '--threads', '1'];
  await measure(argv, { PATH: process.env.PATH, PYTHONDONTWRITEBYTECODE: '1' }, log);
  const line = (await readFile(log, 'utf8')).trim().split('\n').at(-1) ?? '';
  const { wall_s: wall, cpu_s: cpu, peak_rss_mb: peak } = JSON.parse(line) as { wall_s: number; cpu_s: number; peak_rss_mb: number };
  const resident = peak * 1024 ** 2;
  return { wall, cpu, peak: resident, maxrss: resident, bytes: await weightBytes(into) };
}

async function weightBytes(dir: string): Promise<number> {
  const names = (await readdir(dir)).filter((name) => name.endsWith('.safetensors'));
  return (await Promise.all(names.map((name) => stat(join(dir, name))))).reduce((sum, { size }) => sum + size, 0);
}

/** Six layers of 2048 by 8192, in two shards: of 512 million weights 377 million are in linear layers. Returns the folder of its files. */
export async function makeModel(workspace: string): Promise<string> {
  const [hidden, inner, kv, vocab] = [2048, 8192, 1024, 32_768];
  const shapes: [string, number[]][] = [
    ['input_layernorm', [hidden]],
    ['self_attn.q_proj', [hidden, hidden]],
    ['self_attn.k_proj', [kv, hidden]],
    ['self_attn.v_proj', [kv, hidden]],
    ['self_attn.o_proj', [hidden, hidden]],
    ['post_attention_layernorm', [hidden]],
    ['mlp.gate_proj', [inner, hidden]],
    ['mlp.up_proj', [inner, hidden]],
    ['mlp.down_proj', [hidden, inner]],
  ];
  const layer = (index: number): Tensor[] => shapes.map(([part, shape]) => ({ name: `model.layers.${index}.${part}.weight`, shape }));
  const tensors: Tensor[] = [
    { name: 'model.embed_tokens.weight', shape: [vocab, hidden] },
    ...[0, 1, 2, 3, 4, 5].flatMap(layer),
    { name: 'model.norm.weight', shape: [hidden] },
    { name: 'lm_head.weight', shape: [vocab, hidden] },
  ];
  const half = Math.ceil(tensors.length / 2);
  const shards = [tensors.slice(0, half), tensors.slice(half)].map((list, index) => ({
    list,
    name: `model-0000${index + 1}-of-00002.safetensors`,
  }));
  const folder = modelFolder(workspace, benchSource.repo, benchSource.commit, everything);
  await mkdir(folder.files, { recursive: true });
  const files: { path: string; size: number; sha256: string }[] = [];
  for (const [seed, { list, name }] of shards.entries()) {
    const content = safetensors(list, seed + 1);
    await pipeline(Readable.from(readRange(content)), createWriteStream(join(folder.files, name)));
    files.push({ path: name, size: content.size, sha256: sha256Of(content) });
  }
  const map = new Map(shards.flatMap(({ list, name }) => list.map((tensor) => [tensor.name, name])));
  const config = {
    model_type: 'llama',
    architectures: ['LlamaForCausalLM'],
    hidden_size: hidden,
    intermediate_size: inner,
    vocab_size: vocab,
  };
  const small = {
    'config.json': Buffer.from(JSON.stringify(config, null, 2)),
    [indexName]: indexBytes(
      map,
      tensors.reduce((sum, tensor) => sum + tensorBytes(tensor), 0),
    ),
  };
  for (const [path, bytes] of Object.entries(small)) {
    await writeFile(join(folder.files, path), bytes);
    files.push({ path, size: bytes.length, sha256: sha256Of(bytes) });
  }
  await mkdir(dirname(folder.manifest), { recursive: true });
  await writeFile(folder.manifest, manifestBytes(makeManifest({ source: benchSource, selection: everything, files })));
  return folder.files;
}
