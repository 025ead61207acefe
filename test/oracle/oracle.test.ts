import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Arithmetic } from '../../lib/quantization/kernel.ts';
import { fits, type Method, methods, schemeOf } from '../../lib/quantization/schemes.ts';
import { type CheckpointName, checkpointFiles, checkpoints } from '../fakes/model/checkpoints.ts';
import { Program } from '../fakes/program.ts';
import { fillWorkspace } from '../fakes/workspace.ts';
import { missing, referencePython, runOracle, vllmPython } from './programs.ts';

/** What compare.py prints. */
interface Verdict {
  tensors?: number;
  identical?: number;
  failures: string[];
  [logits: `logits_vs_${string}`]: { max_abs: number; kl: number; top1_equal: number };
}

/** One line of vllm_check.py. */
interface Loaded {
  folder: string;
  loaded: boolean;
  kernel: 'vllm' | 'plain';
  mean_abs_dlogprob: number;
}

const presetOf = (method: Method) => method.toUpperCase().replace('-', '_');
const say = (line: string) => process.stdout.write(`${line}\n`);

/** Our built program over a checkpoint: the folder with its files. Made once for each set of flags. */
async function compressed(root: string, name: CheckpointName, method: Method, arithmetic: Arithmetic = 'f32'): Promise<string> {
  const workspace = join(root, 'ours', `${name}-${method}-${arithmetic}`);
  await fillWorkspace(workspace, Object.fromEntries(checkpointFiles(name)));
  const { exitCode, stdout, stderr } = await new Program('compress', [
    '--workspace',
    workspace,
    '--method',
    method,
    '--arithmetic',
    arithmetic,
  ]).ended;
  expect(exitCode, stderr).toBe(0);
  const { manifest } = JSON.parse(stdout) as { manifest: string };
  return join(workspace, manifest, '../files');
}

/** Whether anything of a checkpoint fits a method: where nothing does, there is no smaller model to judge. */
function takes(name: CheckpointName, method: Method): boolean {
  const { hidden_size: hidden } = checkpoints[name].config;
  return fits(schemeOf(method), [hidden, hidden]) === undefined;
}

if (missing) say(`skipped: ${missing}`);

describe.skipIf(missing)('beside the programs that made and load such models', () => {
  let root: string;
  let python: string;
  let source: string;

  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'oracle-'));
    python = await referencePython();
    source = join(root, 'source');
    await mkdir(source);
    for (const [name, bytes] of checkpointFiles('llama-bf16')) await writeFile(join(source, name), bytes);
    const schemes = methods.flatMap((method) => ['--scheme', presetOf(method)]);
    const { exitCode, stderr } = await runOracle(python, 'oracle.py', '--out', root, '--fixture', 'llama-bf16', ...schemes);
    expect(exitCode, stderr).toBe(0);
  });
  afterAll(async () => await rm(root, { recursive: true, force: true }));

  async function judged(...args: string[]): Promise<Verdict> {
    const { exitCode, stdout, stderr } = await runOracle(python, 'compare.py', ...args);
    expect(stdout, stderr).toContain('failure_count');
    const verdict = JSON.parse(stdout) as Verdict;
    expect({ exitCode, failures: verdict.failures }).toEqual({ exitCode: 0, failures: [] });
    return verdict;
  }

  const cases = methods.flatMap((method) => (['f32', 'native'] as const).map((arithmetic) => ({ method, arithmetic })));
  test.each(cases)('$method, $arithmetic: tensors, config and logits of the reference', async ({ method, arithmetic }) => {
    const ours = await compressed(root, 'llama-bf16', method, arithmetic);
    const reference = join(root, 'ref/llama-bf16', `${presetOf(method)}${arithmetic === 'f32' ? '.f32' : ''}`);
    // Loading three models takes most of the time: once for each method is enough, as equal tensors give equal logits.
    const logits = arithmetic === 'f32' ? ['--src', source, '--logits'] : [];
    const verdict = await judged(ours, '--ref', reference, ...logits);
    say(`compare ${method} ${arithmetic}: ${JSON.stringify(verdict)}`);
    expect(verdict.identical).toBe(verdict.tensors);
    if (arithmetic === 'f32') expect(verdict.logits_vs_reference).toMatchObject({ max_abs: 0, top1_equal: 1 });
  });

  // What the reference refuses or does in another way: the format, and that `ignore` says what was left, must hold all the same.
  const others = (['llama-bf16-sharded', 'odd-bf16', 'moe-bf16'] as const).flatMap((name) =>
    methods.filter((method) => takes(name, method)).map((method) => ({ name, method })),
  );
  test.each(others)('$name, $method: well formed', async ({ name, method }) => {
    await judged(await compressed(root, name, method), '--check');
  });

  /** How far the log-probabilities of vLLM's own kernels, or of its parameters multiplied densely, may be from the source's. */
  const limits: Record<Method, number> = {
    'fp8-dynamic': 0.03,
    'fp8-block': 0.04,
    w8a8: 0.05,
    w8a16: 0.01,
    w4a16: 0.1,
    'w4a16-asym': 0.12,
    nvfp4a16: 0.12,
    mxfp4a16: 0.08,
    mxfp4: 0.08,
  };

  test('vLLM loads every method, and says nearly what the source says', async () => {
    const folders = new Map<string, Method>();
    for (const method of methods) folders.set(await compressed(root, 'llama-bf16', method), method);
    const { exitCode, stdout, stderr } = await runOracle(await vllmPython(), 'vllm_check.py', source, ...folders.keys());
    const lines = stdout.trim().split('\n');
    for (const line of lines) say(`vllm_check: ${line.replace(root, '')}`);
    expect(exitCode, stderr).toBe(0);
    const loaded = lines.map((line) => JSON.parse(line) as Loaded).filter(({ folder }) => folder !== source);
    expect(loaded.map(({ folder }) => folder)).toEqual([...folders.keys()]);
    for (const { folder, mean_abs_dlogprob: distance } of loaded) expect(distance, folder).toBeLessThan(limits[folders.get(folder)!]);
    const kernels = loaded.filter(({ kernel }) => kernel === 'vllm').map(({ folder }) => folders.get(folder));
    expect(kernels).toEqual(expect.arrayContaining(['fp8-dynamic', 'w8a8']));
  });
});
