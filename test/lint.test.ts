import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { lintModel } from '../lib/lint/lint.ts';
import type { LintProfile } from '../lib/lint/model.ts';
import { lint } from '../tasks/lint/step.ts';
import { plan } from '../tasks/plan/step.ts';
import { sync } from '../tasks/sync/step.ts';
import { upload } from '../tasks/upload/step.ts';
import { bytesOf, type Files, sizeOf } from './fakes/content.ts';
import { FakeHub } from './fakes/hub.ts';
import { tinyLlama } from './fakes/model.ts';
import { runInProcess } from './fakes/program.ts';
import { fillWorkspace } from './fakes/workspace.ts';

const tiny = tinyLlama();
const [shardOne, shardTwo] = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'] as const;

/** `severity rule` of what is found in a good model with these files more, changed or (undefined) less. */
async function findings(profile: LintProfile, changes: Record<string, string | Buffer | object | undefined> = {}): Promise<string[]> {
  const files: Files = new Map(tiny);
  for (const [path, content] of Object.entries(changes)) {
    if (content === undefined) files.delete(path);
    else if (Buffer.isBuffer(content)) files.set(path, content);
    else files.set(path, Buffer.from(typeof content === 'string' ? content : JSON.stringify(content)));
  }
  const list = [...files].map(([path, content]) => ({ path, size: sizeOf(content) }));
  const found = await lintModel(list, profile, async ({ path }) => bytesOf(files.get(path)!));
  return found.map(({ severity, rule }) => `${severity} ${rule}`);
}
const config = (more: object) => ({ ...(JSON.parse(bytesOf(tiny.get('config.json')!).toString()) as object), ...more });

describe('the rules', () => {
  test.each(['all', 'vllm', 'runai', 'kserve', 'ray'] as const)('%s: a good model has nothing wrong', async (profile) => {
    expect(await findings(profile)).toEqual([]);
  });

  test('shards that the index or the numbers miss', async () => {
    expect(await findings('all', { [shardTwo]: undefined })).toEqual(['error shards', 'error shards']);
    expect(await findings('all', { [shardOne]: undefined, 'model.safetensors.index.json': undefined })).toEqual(['error shards']);
    expect(await findings('all', { 'model.safetensors.index.json': '{' })).toEqual(['error index']);
    // The index of a second set of weights that was left out on purpose.
    expect(await findings('all', { 'pytorch_model.bin.index.json': { weight_map: { a: 'pytorch_model-00001-of-00002.bin' } } })).toEqual(
      [],
    );
  });

  test('a second set of weights is an error where the streamer would take it', async () => {
    const second = { 'consolidated.safetensors': 'x' };
    expect(await findings('runai', second)).toEqual(['error second-weights']);
    expect(await findings('vllm', second)).toEqual(['error second-weights']);
    expect(await findings('kserve', second)).toEqual(['warning second-weights']);
    expect(await findings('all', second)).toEqual([]);
    const only = { [shardOne]: undefined, [shardTwo]: undefined, 'model.safetensors.index.json': undefined, ...second };
    expect(await findings('vllm', only)).toEqual([]);
  });

  test('what is missing, and what every pod would fetch for nothing', async () => {
    const none = { [shardOne]: undefined, [shardTwo]: undefined, 'model.safetensors.index.json': undefined };
    expect(await findings('all', none)).toEqual(['error weights']);
    expect(await findings('runai', { ...none, 'sub/model.safetensors': 'x' })).toEqual(['error streamer']);
    expect(await findings('vllm', { 'config.json': undefined })).toEqual(['error config']);
    expect(await findings('all', { 'config.json': undefined })).toEqual(['warning config']);
    expect(await findings('vllm', { 'config.json': undefined, 'params.json': '{}' })).toEqual(['warning config']);
    expect(await findings('ray', { 'tokenizer.json': undefined, hash: 'x' })).toEqual(['error tokenizer', 'error hash']);
    expect(await findings('vllm', { 'model.tar.gz': 'x', 'original/a.pth': 'x' })).toEqual(['warning archives', 'warning waste']);
    expect(await findings('kserve', { 'empty.txt': '' })).toEqual(['warning empty']);
  });

  test('code of its own', async () => {
    const auto = { 'config.json': config({ auto_map: { AutoConfig: 'configuration_x.XConfig', AutoModel: 'org/other--modeling_y.Y' } }) };
    expect(await findings('vllm', auto)).toEqual(['error remote-code']);
    expect(await findings('vllm', { ...auto, 'configuration_x.py': 'x' })).toEqual(['warning remote-code']);
  });

  test('quantization that does not fit itself', async () => {
    const quantized = (more: object) => ({ 'config.json': config({ quantization_config: more }) });
    expect(await findings('all', quantized({ bits: 4 }))).toEqual(['error quantization']);
    expect(await findings('all', quantized({ quant_method: 'compressed-tensors' }))).toEqual(['error quantization']);
    expect(await findings('all', quantized({ quant_method: 'compressed-tensors', config_groups: {} }))).toEqual([]);
    const gptq = quantized({ quant_method: 'gptq', bits: 4 });
    expect(await findings('all', { ...gptq, 'quantize_config.json': { bits: 4 } })).toEqual([]);
    expect(await findings('all', { ...gptq, 'quantize_config.json': { bits: 8 } })).toEqual(['error quantization']);
    expect(await findings('all', { ...gptq, 'hf_quant_config.json': { quantization: { quant_algo: 'NVFP4' } } })).toEqual([
      'error quantization',
    ]);
    expect(await findings('all', { 'quantize_config.json': { bits: 4 } })).toEqual(['warning quantization']);
    expect(await findings('all', quantized({ quant_method: 'newest' }))).toEqual(['warning quantization']);
  });
});

describe('the step', () => {
  let dir: string;
  let hub: FakeHub;
  let env: Record<string, string>;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'lint-'));
    hub = await new FakeHub().listen();
    hub.addRepo({ id: 'acme/tiny', files: tinyLlama({ junk: true }) });
    env = { HF_ENDPOINT: hub.origin, STORE_DIR: join(dir, 'store'), WORKSPACE: join(dir, 'workspace'), MODEL_ID: 'acme/tiny' };
  });
  afterEach(async () => {
    await hub.close();
    await rm(dir, { recursive: true });
  });

  test('looks on the Hub before a byte has moved, and into the store after', async () => {
    const bad = await runInProcess(lint, ['--source=hub', '--profile=runai'], env);
    expect(bad.exitCode).toBe(7);
    expect(JSON.parse(bad.stdout)).toContainEqual(expect.objectContaining({ severity: 'error', rule: 'second-weights' }));
    expect(hub.cdn.requests).toEqual([]);
    expect((await runInProcess(sync, ['--profile=runai'], env)).exitCode).toBe(0);
    const good = await runInProcess(lint, ['--profile=runai'], env);
    expect(good.exitCode, good.stderr).toBe(0);
    expect((JSON.parse(good.stdout) as { rule: string }[]).map(({ rule }) => rule)).toEqual([]);
  });

  test('upload says it, refuses it when asked to, and is silent when told so', async () => {
    await fillWorkspace(env.WORKSPACE ?? '', { 'config.json': Buffer.from('{}'), [shardOne]: Buffer.from('x') });
    const refused = await runInProcess(upload, ['--lint=error'], env);
    expect(refused.exitCode).toBe(7);
    expect(refused.stderr).toContain('1 of 2 shards');
    const quiet = await runInProcess(upload, ['--lint=off'], env);
    expect(quiet.exitCode).toBe(0);
    expect(quiet.stderr).not.toContain('shards');
    const told = await runInProcess(upload, ['--model-version=2'], env);
    expect(told.exitCode).toBe(0);
    expect(told.stderr).toContain('1 of 2 shards');
    expect((await runInProcess(lint, ['--source=local'], env)).exitCode).toBe(7);
  });

  test.each([
    ['sync', sync],
    ['plan', plan],
  ] as const)('%s says the same before any byte moves', async (_, step) => {
    hub.addRepo({ id: 'acme/half', files: new Map([...tiny].filter(([path]) => path !== shardTwo)) });
    const more = { ...env, MODEL_ID: 'acme/half' };
    for (const argv of [['--lint=error'], ['--lint=error', '--dry-run']]) {
      const refused = await runInProcess(step, argv, more);
      expect(refused.exitCode).toBe(7);
      expect(refused.stderr).toMatch(/failed to publish file:.*1 of 2 shards/);
      expect(refused.stderr).toContain('--lint warn');
    }
    expect(hub.cdn.requests).toEqual([]);
    expect(existsSync(join(env.STORE_DIR ?? '', 'model-data'))).toBe(false);
    expect(existsSync(join(env.STORE_DIR ?? '', '.modelferry/claims/model-data'))).toBe(false);
    const quiet = await runInProcess(step, ['--lint=off', '--model-version=1'], more);
    expect(quiet.exitCode, quiet.stderr).toBe(0);
    expect(quiet.stderr).not.toContain('of 2 shards');
    const told = await runInProcess(step, [], more);
    expect(told.exitCode, told.stderr).toBe(0);
    expect(told.stderr).toContain('1 of 2 shards');
  });

  test('what is published already is not looked at again', async () => {
    hub.addRepo({ id: 'acme/half', files: new Map([...tiny].filter(([path]) => path !== shardTwo)) });
    const more = { ...env, MODEL_ID: 'acme/half' };
    expect((await runInProcess(sync, [], more)).exitCode).toBe(0);
    hub.hub.requests.length = 0;
    const again = await runInProcess(sync, ['--lint=error'], more);
    expect(again.results).toMatchObject({ unchanged: 'true' });
    expect(hub.seen(/\/resolve\//)).toEqual([]);
  });
});
