import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { sha256Of } from '../lib/integrity.ts';
import type { Method } from '../lib/quantization/schemes.ts';
import { download } from '../tasks/download/step.ts';
import { upload } from '../tasks/upload/step.ts';
import { storeEnv } from './fakes/cache.ts';
import { bytesOf } from './fakes/content.ts';
import { FakeHub } from './fakes/hub.ts';
import { type CheckpointName, checkpointFiles, fileOf } from './fakes/model/checkpoints.ts';
import { tinyLlama } from './fakes/model.ts';
import { type Ended, Program, runInProcess, until } from './fakes/program.ts';
import { FakeS3 } from './fakes/s3.ts';
import type { Fault } from './fakes/server.ts';
import { fillWorkspace } from './fakes/workspace.ts';

const [first, second] = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'] as const;
const llama = Object.fromEntries([...tinyLlama({ shardBytes: 24_000_000 })].map(([path, content]) => [path, bytesOf(content)]));
const prefixFor = (method: Method, name = 'tiny') => `model-data/${name}/${'a'.repeat(12)}-${method}`;

let s3: FakeS3;
let root: string;
let workspace: string;
let env: Record<string, string>;
beforeEach(async () => {
  s3 = await new FakeS3().listen();
  s3.createBucket('models');
  root = await mkdtemp(join(tmpdir(), 'fuse-'));
  workspace = join(root, 'fused');
  env = {
    WORKSPACE: workspace,
    ...storeEnv(s3),
    PART_SIZE: '5MiB',
    RETRIES: '1',
  };
});
afterEach(async () => {
  await s3.close();
  await rm(root, { recursive: true });
});

/** A weight with that bfloat16 at row 1, column 0. */
function weightWith(bits: number) {
  const bytes = Buffer.alloc(131072, 60);
  bytes.writeUInt16LE(bits, 512);
  return { name: 'model.layers.0.mlp.down_proj.weight', dtype: 'BF16' as const, shape: [256, 256], bytes };
}

type Results = Record<string, string>;

async function fused(method: Method, args: readonly string[] = [], more: Record<string, string> = {}): Promise<Ended> {
  return await new Program('compress', ['--method', method, '--fuse-upload', ...args], { ...env, ...more }).ended;
}

async function ok(ended: Ended | Promise<Ended>): Promise<Results> {
  const { exitCode, stdout, stderr } = await ended;
  expect(exitCode, stderr).toBe(0);
  return JSON.parse(stdout) as Results;
}

/** What compress and upload, one after the other, publish of the same source under another name. */
async function onDisk(files: Record<string, Buffer>, method: Method): Promise<{ results: Results; dir: string }> {
  const other = { ...env, WORKSPACE: join(root, 'disk'), MODEL_NAME: 'other' };
  await fillWorkspace(other.WORKSPACE, files);
  const results = await ok(new Program('compress', ['--method', method], other).ended);
  const uploaded = await runInProcess(upload, [], other);
  expect(uploaded.exitCode, uploaded.stderr).toBe(0);
  return { results, dir: join(other.WORKSPACE, results.manifest?.replace(/\/manifest\.json$/, '') ?? '') };
}

const under = (prefix: string) => s3.keys('models', `${prefix}/`).map((key) => key.slice(prefix.length + 1));
const manifestAt = (prefix: string) => s3.object('models', `.modelferry/manifests/${prefix}.json`);
const partsOf = (path: string) => s3.seen(new RegExp(`^PUT .*/${path}\\?.*partNumber`)).filter(({ status }) => status === 200).length;

async function expectEqual(one: string, other: string): Promise<void> {
  expect(under(one)).toEqual(under(other));
  for (const path of under(one)) {
    const bytes = await Promise.all([one, other].map((prefix) => s3.object('models', `${prefix}/${path}`)?.bytes()));
    expect(bytes[0]?.equals(bytes[1] ?? Buffer.alloc(0)), path).toBe(true);
  }
  const manifests = await Promise.all([one, other].map((prefix) => manifestAt(prefix)?.bytes()));
  expect(manifests[0]?.toString()).toBe(manifests[1]?.toString());
  expectTidy();
}

/** Nothing of a run is left but the model and its records. */
function expectTidy(): void {
  expect(s3.uploads('models')).toEqual([]);
  expect(s3.keys('models', '.modelferry/claims/')).toEqual([]);
}

const weightsIn = async (dir: string) => (await readdir(dir, { recursive: true })).filter((path) => path.endsWith('.safetensors'));

describe('compress --fuse-upload', () => {
  const models: [CheckpointName, Method][] = [
    ['llama-bf16-sharded', 'fp8-dynamic'],
    ['llama-bf16-sharded', 'nvfp4a16'],
    ['odd-bf16', 'mxfp4'],
    ['llama-f32', 'w4a16-asym'],
  ];
  test.each(models)(
    '%s by %s: bytes, manifest and report are those of compress and upload, and upload finds it published',
    async (name, method) => {
      const files = { ...Object.fromEntries(checkpointFiles(name)), 'tokenizer.json': Buffer.from('{}'), 'sub/a.txt': Buffer.from('a') };
      const wanted = await onDisk(files, method);
      const { dir: source } = await fillWorkspace(workspace, files);
      const results = await ok(fused(method));
      expect(results).toEqual(wanted.results);
      await expectEqual(prefixFor(method), prefixFor(method, 'other'));
      const dir = `${source}-${method}`;
      expect(await weightsIn(dir)).toEqual([]);
      for (const name of ['manifest.json', 'report.json', 'report.html', 'source.json', 'files/config.json', 'files/sub/a.txt'])
        expect((await readFile(join(dir, name))).equals(await readFile(join(wanted.dir, name))), name).toBe(true);
      expect((await readdir(dir)).sort()).toEqual(['files', 'manifest.json', 'report.html', 'report.json', 'run-id', 'source.json']);
      const writes = s3.seen(/^(PUT|POST|DELETE)/).length;
      const uploaded = await runInProcess(upload, [], env);
      expect(uploaded).toMatchObject({ exitCode: 0, results: { ...results, unchanged: 'true', 'uploaded-bytes': '0' } });
      expect(uploaded.results['model-uri']).toBe(`s3://models/${prefixFor(method)}/`);
      expect(s3.seen(/^(PUT|POST|DELETE)/).length).toBe(writes);
    },
  );

  test('killed in the middle, it leaves nothing to see; a rerun makes no finished shard again and sends no part twice', async () => {
    const wanted = await onDisk(llama, 'w8a8');
    const { dir: source } = await fillWorkspace(workspace, llama);
    const prefix = prefixFor('w8a8');
    const path = new RegExp(`^PUT .*/tiny/.*/${second}\\?.*partNumber=2`);
    s3.fail({ on: path, times: 9, stallAfter: -1 });
    const program = new Program('compress', ['--method', 'w8a8', '--fuse-upload'], env);
    await until(() => (s3.seen(path).length > 0 && under(prefix).includes(first)) || program.child.exitCode !== null);
    const made = partsOf(`tiny/[^/]*/${first}`);
    await program.kill('SIGKILL');
    expect(made).toBeGreaterThan(1);
    expect(manifestAt(prefix)).toBeUndefined();
    expect(under(prefix)).not.toContain(second);
    const dir = `${source}-w8a8`;
    expect(existsSync(join(dir, 'manifest.json'))).toBe(false);
    s3.clearFaults();
    const before = partsOf(`tiny/[^/]*/${second}`);
    const results = await ok(fused('w8a8'));
    expect(results).toEqual(wanted.results);
    expect(partsOf(`tiny/[^/]*/${first}`)).toBe(made);
    expect(before).toBeGreaterThan(0);
    // Both shards are of one size: as many parts in all.
    expect(partsOf(`tiny/[^/]*/${second}`)).toBe(partsOf(`other/[^/]*/${second}`));
    await expectEqual(prefix, prefixFor('w8a8', 'other'));
    expect((await readFile(join(dir, 'report.json'))).equals(await readFile(join(wanted.dir, 'report.json')))).toBe(true);
  });

  test('killed right after a shard became an object, a rerun neither makes nor sends it again', async () => {
    await fillWorkspace(workspace, llama);
    const completed = new RegExp(`^POST .*/tiny/.*/${first}\\?.*uploadId`);
    // The answer to the completion is the last that it gets.
    s3.fail({ on: completed, times: 9, loseAnswer: true });
    s3.fail({ on: () => s3.seen(completed).length > 0, times: 99, stallAfter: -1 });
    const program = new Program('compress', ['--method', 'w8a8', '--fuse-upload'], env);
    await until(() => under(prefixFor('w8a8')).includes(first) || program.child.exitCode !== null);
    await program.kill('SIGKILL');
    expect(under(prefixFor('w8a8'))).toContain(first);
    s3.clearFaults();
    const made = partsOf(first);
    expect(made).toBeGreaterThan(1);
    await ok(fused('w8a8'));
    expect(partsOf(first)).toBe(made);
    await onDisk(llama, 'w8a8');
    await expectEqual(prefixFor('w8a8'), prefixFor('w8a8', 'other'));
  });

  test('ended by SIGTERM it says so, and what it left is no model', async () => {
    const { dir: source } = await fillWorkspace(workspace, llama);
    s3.fail({ on: /partNumber=2/, times: 9, stallAfter: -1 });
    const program = new Program('compress', ['--method', 'fp8-dynamic', '--fuse-upload'], env);
    await until(() => s3.seen(/partNumber=2/).length > 0 || program.child.exitCode !== null);
    expect((await program.kill('SIGTERM')).exitCode).toBe(143);
    expect([manifestAt(prefixFor('fp8-dynamic')), existsSync(`${source}-fp8-dynamic/manifest.json`)]).toEqual([undefined, false]);
  });

  test('gets over completions whose answers are lost, and an upload that somebody aborted', async () => {
    await fillWorkspace(workspace, llama);
    s3.fail({ on: /^POST .*uploadId/, times: 2, loseAnswer: true });
    let aborted = false;
    s3.onDone = ({ url }) => {
      if (aborted || !/partNumber=1&/.test(url)) return;
      aborted = true;
      s3.buckets.get('models')?.uploads.clear();
    };
    await ok(fused('fp8-dynamic', ['--retries', '3']));
    expect(aborted).toBe(true);
    await onDisk(llama, 'fp8-dynamic');
    await expectEqual(prefixFor('fp8-dynamic'), prefixFor('fp8-dynamic', 'other'));
  });

  test('refuses what is in conflict before a weight is read, and replaces it when told to', async () => {
    const { filesDir } = await fillWorkspace(workspace, llama);
    await ok(fused('fp8-dynamic', ['--model-version', '1']));
    const tampered = Buffer.from(llama[first] ?? '');
    await writeFile(join(filesDir, first), tampered.fill(0, tampered.length - 4096));
    const refused = await fused('w8a8', ['--model-version', '1']);
    expect(refused).toMatchObject({ exitCode: 7, stdout: '' });
    expect(refused.stderr).toContain('other content is published there');
    await fillWorkspace(workspace, llama);
    const results = await ok(fused('w8a8', ['--model-version', '1', '--replace']));
    const published = await manifestAt('model-data/tiny/1')?.bytes();
    expect(JSON.parse(published?.toString() ?? '')).toMatchObject({ derived: { method: 'w8a8' } });
    expect((await ok(fused('w8a8', ['--model-version', '1'])))['manifest-sha256']).toBe(results['manifest-sha256']);
    expectTidy();
  });

  test('makes no object of a source whose bytes are not those of its manifest, nor of weights that are no numbers', async () => {
    const { filesDir } = await fillWorkspace(workspace, llama);
    const bytes = Buffer.from(llama[second] ?? '');
    bytes.writeUInt8(bytes.readUInt8(bytes.length - 2) ^ 1, bytes.length - 2);
    await writeFile(join(filesDir, second), bytes);
    const tampered = await fused('fp8-dynamic');
    expect(tampered.exitCode, tampered.stderr).toBe(6);
    expect(tampered.stderr).toContain(`${second}: its sha256 is`);
    expect(under(prefixFor('fp8-dynamic'))).not.toContain(second);
    const weight = weightWith(0x7fc0);
    await fillWorkspace(workspace, { 'config.json': Buffer.from('{}'), 'model.safetensors': fileOf([weight]) }, { repo: 'acme/nan' });
    const broken = await fused('fp8-dynamic');
    expect(broken).toMatchObject({
      exitCode: 6,
      stderr: expect.stringContaining(`${weight.name} in model.safetensors: row 1, column 0 is NaN`),
    });
    expect(s3.keys('models', '.modelferry/manifests/')).toEqual([]);
    expect(under(prefixFor('fp8-dynamic', 'nan'))).not.toContain('model.safetensors');
    expectTidy();
  });

  test('does nothing twice, makes again what the store lost, and sends a model that is on the disk as it is', async () => {
    const files = Object.fromEntries(checkpointFiles('llama-bf16'));
    await fillWorkspace(workspace, files);
    const results = await ok(fused('w4a16'));
    const writes = s3.seen(/^(PUT|POST|DELETE)/).length;
    const again = await fused('w4a16');
    expect([await ok(again), again.stderr]).toEqual([results, expect.stringContaining('nothing to do')]);
    expect(s3.seen(/^(PUT|POST|DELETE)/).length).toBe(writes);
    s3.createBucket('models');
    expect(await ok(fused('w4a16'))).toEqual(results);
    expect(under(prefixFor('w4a16'))).toContain('model.safetensors');
    // Without the flag its files are wanted here.
    expect(await ok(new Program('compress', ['--method', 'w4a16'], env).ended)).toEqual(results);
    s3.createBucket('models');
    const sent = await fused('w4a16', ['--report-dir', join(root, 'report')]);
    expect([await ok(sent), sent.stderr]).toEqual([results, expect.not.stringContaining('compress started')]);
    expect(under(prefixFor('w4a16'))).toContain('model.safetensors');
    expect((await readdir(join(root, 'report'))).sort()).toEqual(['report.html', 'report.json']);
  });

  test('with --remove-source what is published is enough; where it is not, the model must be downloaded again', async () => {
    const files = Object.fromEntries(checkpointFiles('llama-bf16'));
    const { dir } = await fillWorkspace(workspace, files);
    const named = ['--remove-source', '--manifest', join(dir, 'manifest.json')];
    const results = await ok(fused('fp8-dynamic', named));
    expect(existsSync(join(dir, 'files'))).toBe(false);
    expect(await ok(fused('fp8-dynamic', named))).toEqual(results);
    s3.createBucket('models');
    const lost = await fused('fp8-dynamic', named);
    expect(lost).toMatchObject({ exitCode: 3, stderr: expect.stringContaining('run download again') });
  });

  test('a folder can be the store; a dry run tells the place and the size to the byte; parameters are told from the start', async () => {
    const files = Object.fromEntries(checkpointFiles('llama-bf16'));
    await fillWorkspace(workspace, files);
    const store = { WORKSPACE: workspace, STORE_DIR: join(root, 'store') };
    const dry = await new Program('compress', ['--method', 'w8a16', '--fuse-upload', '--dry-run'], store).ended;
    const told = JSON.parse(dry.stdout) as { folder: string; bytesAfter: number };
    const results = await ok(new Program('compress', ['--method', 'w8a16', '--fuse-upload'], store).ended);
    expect(told).toMatchObject({
      folder: `file://${join(root, 'store')}/${prefixFor('w8a16')}/`,
      bytesAfter: Number(results['total-bytes']),
    });
    const none = await new Program('compress', ['--method', 'w8a16', '--fuse-upload'], { WORKSPACE: workspace }).ended;
    expect(none).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('--s3-bucket is missing') });
    const archive = await new Program('compress', ['--method', 'archive', '--fuse-upload'], env).ended;
    expect(archive).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('--fuse-upload') });
    const little = await fused('fp8-dynamic', ['--allow-unsafe', 'never', '--require-license', '--deny-licenses', 'apache-*']);
    expect(little).toMatchObject({ exitCode: 7, stderr: expect.stringContaining('--deny-licenses') });
  });
});

describe('sync --method', () => {
  let hub: FakeHub;
  let hubEnv: Record<string, string>;
  beforeEach(async () => {
    hub = new FakeHub();
    await hub.listen();
    hubEnv = { ...env, MODEL_ID: 'acme/tiny', HF_ENDPOINT: hub.origin, WORKSPACE: '' };
  });
  afterEach(() => hub.close());

  const given = (files: Record<string, Buffer>) => hub.addRepo({ id: 'acme/tiny', files: new Map(Object.entries(files)) });
  const prefixOf = (method: Method, name = 'tiny') => `model-data/${name}/${hub.repo('acme/tiny').sha().slice(0, 12)}-${method}`;

  async function synced(method: Method, args: readonly string[] = []): Promise<Ended> {
    return await new Program('sync', ['--method', method, ...args], hubEnv, root).ended;
  }

  /** What download, compress and upload publish of it under another name. */
  async function bySteps(method: Method): Promise<Results> {
    const other = { ...hubEnv, WORKSPACE: join(root, 'steps'), MODEL_NAME: 'other' };
    expect((await runInProcess(download, [], other)).exitCode).toBe(0);
    await ok(new Program('compress', ['--method', method], other).ended);
    expect((await runInProcess(upload, [], other)).exitCode).toBe(0);
    const published = await manifestAt(prefixOf(method, 'other'))?.bytes();
    return { sha256: sha256Of(published ?? '') };
  }

  const models: [CheckpointName, Method][] = [
    ['llama-bf16-sharded', 'fp8-dynamic'],
    ['llama-bf16-sharded', 'fp8-block'],
    ['moe-bf16', 'w4a16'],
    ['llama-f16', 'w4a16-asym'],
  ];
  test.each(models)(
    '%s by %s: bytes and manifest are those of download, compress and upload, and no disk is touched',
    async (name, method) => {
      given({ ...Object.fromEntries(checkpointFiles(name)), 'tokenizer.json': Buffer.from('{}'), 'README.md': Buffer.from('a card') });
      const { sha256 } = await bySteps(method);
      const before = await readdir(root);
      const results = await ok(synced(method));
      expect(results).toMatchObject({ 'manifest-sha256': sha256, unchanged: 'false', 'model-uri': `s3://models/${prefixOf(method)}/` });
      expect(await readdir(root)).toEqual(before);
      await expectEqual(prefixOf(method), prefixOf(method, 'other'));
      const [writes, served] = [s3.seen(/^(PUT|POST|DELETE)/).length, hub.servedBytes];
      expect(await ok(synced(method))).toEqual({ ...results, unchanged: 'true', 'uploaded-bytes': '0' });
      // The listing alone tells that it is there.
      expect(s3.seen(/^(PUT|POST|DELETE)/).length).toBe(writes);
      expect(hub.servedBytes - served).toBeLessThan(5000);
    },
  );

  test('killed in the middle, it leaves nothing to see; a rerun reads no finished shard again and sends no part twice', async () => {
    given(llama);
    const { sha256 } = await bySteps('w8a8');
    const prefix = prefixOf('w8a8');
    const path = new RegExp(`^PUT .*/tiny/.*/${second}\\?.*partNumber=2`);
    s3.fail({ on: path, times: 9, stallAfter: -1 });
    const program = new Program('sync', ['--method', 'w8a8'], hubEnv);
    await until(() => (s3.seen(path).length > 0 && under(prefix).includes(first)) || program.child.exitCode !== null);
    await program.kill('SIGKILL');
    expect(manifestAt(prefix)).toBeUndefined();
    expect(under(prefix)).not.toContain(second);
    s3.clearFaults();
    const [made, served] = [partsOf(`tiny/[^/]*/${first}`), hub.servedBytes];
    const rerun = await synced('w8a8', ['--report-dir', join(root, 'report')]);
    const results = await ok(rerun);
    expect(results['manifest-sha256']).toBe(sha256);
    expect([rerun.stderr, existsSync(join(root, 'report'))]).toEqual([expect.stringContaining('there is no report'), false]);
    expect(partsOf(`tiny/[^/]*/${first}`)).toBe(made);
    expect(partsOf(`tiny/[^/]*/${second}`)).toBe(partsOf(`other/[^/]*/${second}`));
    expect(hub.servedBytes - served).toBeLessThan(24_500_000);
    await expectEqual(prefix, prefixOf('w8a8', 'other'));
  });

  test.each<[string, 'cdn' | 's3', Fault]>([
    ['a CDN body that is cut', 'cdn', { on: /GET/, skip: 3, times: 3, cutAfter: 1_000_000 }],
    ['an expired link', 'cdn', { on: /GET/, skip: 6, times: 2, answer: { status: 403 } }],
    ['a completion whose answer is lost', 's3', { on: /^POST .*uploadId/, times: 2, loseAnswer: true }],
  ])('gets over %s', async (_, side, fault) => {
    given(llama);
    ({ cdn: hub.cdn, s3 })[side].fail(fault);
    await ok(synced('fp8-dynamic', ['--retries', '3']));
    expect(under(prefixOf('fp8-dynamic'))).toContain(second);
    expectTidy();
  });

  test('never makes an object of wrong bytes, nor of weights that are no numbers, and refuses what is in conflict', async () => {
    given(llama);
    await ok(synced('fp8-dynamic', ['--key-template', 'models/{name}']));
    const served = hub.servedBytes;
    expect(await synced('w8a8', ['--key-template', 'models/{name}'])).toMatchObject({ exitCode: 7 });
    expect(hub.servedBytes - served).toBeLessThan(5000);
    hub.cdn.fail({ on: ({ headers }) => headers.range === 'bytes=8388608-12582911', times: 100, flipByteAt: 3 });
    const wrong = await synced('w8a8');
    expect(wrong.exitCode, wrong.stderr).toBe(6);
    expect(manifestAt(prefixOf('w8a8'))).toBeUndefined();
    expect(under(prefixOf('w8a8')).filter((path) => path.endsWith('.safetensors'))).toEqual([]);
    expectTidy();
    hub.cdn.clearFaults();
    const weight = weightWith(0x7f80);
    hub.repo('acme/tiny').commit({
      files: new Map(
        Object.entries({
          'model.safetensors': fileOf([weight]),
          [first]: Buffer.from('x'),
          [second]: Buffer.from('x'),
          'model.safetensors.index.json': Buffer.from('{"weight_map":{"model.layers.0.mlp.down_proj.weight":"model.safetensors"}}'),
        }),
      ),
      message: 'broken',
    });
    const infinite = await synced('w8a8');
    expect(infinite).toMatchObject({
      exitCode: 6,
      stderr: expect.stringContaining(`${weight.name} in model.safetensors: row 1, column 0 is Infinity`),
    });
    expectTidy();
  });

  test('puts the report that compress makes into a folder that is named for it', async () => {
    given(Object.fromEntries(checkpointFiles('llama-bf16-sharded')));
    await bySteps('w4a16');
    const [dir, made] = [join(root, 'report'), join(root, 'steps/acme--tiny', `${hub.repo('acme/tiny').sha()}-w4a16`)];
    await writeFile(join(root, 'file'), '');
    const [writes, served] = [s3.seen(/^(PUT|POST|DELETE)/).length, hub.servedBytes];
    expect(await synced('w4a16', ['--report-dir', join(root, 'file')])).toMatchObject({ exitCode: 2 });
    expect([s3.seen(/^(PUT|POST|DELETE)/).length, hub.servedBytes]).toEqual([writes, served]);
    await ok(synced('w4a16', ['--report-dir', dir]));
    for (const name of ['report.json', 'report.html'])
      expect((await readFile(join(dir, name))).equals(await readFile(join(made, name))), name).toBe(true);
    const other = join(root, 'other');
    const again = await synced('w4a16', ['--report-dir', other]);
    expect([await ok(again), again.stderr]).toEqual([
      expect.objectContaining({ unchanged: 'true' }),
      expect.stringContaining('there is no report'),
    ]);
    expect(existsSync(other)).toBe(false);
  });

  test('a dry run tells as many parts as are sent', async () => {
    given(llama);
    Object.assign(hubEnv, { PART_SIZE: '16MiB', MAX_MEMORY: '280MiB' });
    const { parts } = JSON.parse((await synced('fp8-dynamic', ['--dry-run'])).stdout) as { parts: number };
    await ok(synced('fp8-dynamic'));
    const sent = s3.seen(/^PUT \/models\/model-data\/tiny\//).filter(({ status }) => status === 200);
    expect(parts).toBe(sent.length);
  });

  test('tells what would be sent on a dry run, and refuses methods that need all of a tensor and shards of a plan', async () => {
    given(Object.fromEntries(checkpointFiles('llama-bf16')));
    const dry = await synced('w4a16', ['--dry-run']);
    const told = JSON.parse(dry.stdout) as { uri: string; send: { bytes: number } };
    expect(s3.seen(/^(PUT|POST|DELETE)/)).toEqual([]);
    const results = await ok(synced('w4a16'));
    expect(told).toMatchObject({ uri: results['model-uri'], send: { bytes: Number(results['total-bytes']) } });
    for (const [args, text] of [
      [['--method', 'nvfp4a16'], 'download, compress and upload'],
      [['--method', 'archive'], 'download, compress and upload'],
      [['--method', 'w8a8', '--group-size', '32'], '--group-size 32'],
      [['--method', 'w8a8', '--plan', 'x', '--shard', '0/1'], 'a plan has parts of one as they are'],
    ] as const) {
      const { exitCode, stderr } = await new Program('sync', args, hubEnv).ended;
      expect({ exitCode, stderr }).toEqual({ exitCode: 2, stderr: expect.stringContaining(text) });
    }
  });
});
