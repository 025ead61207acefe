import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { lstat, mkdir, mkdtemp, open, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { withQuantization } from '../lib/compression/config-json.ts';
import { ownHolder } from '../lib/holder.ts';
import { sha256Of } from '../lib/integrity.ts';
import { type Manifest, parseManifest } from '../lib/manifest.ts';
import { type Method, methods, quantizationConfig, schemeOf } from '../lib/quantization/schemes.ts';
import { readHeader } from '../lib/safetensors/header.ts';
import { type JsonObject, parseStrictJson } from '../lib/safetensors/strict-json.ts';
import { carryOver } from '../tasks/compress/carry-over.ts';
import { OutputFile } from '../tasks/compress/output-file.ts';
import { bytesOf } from './fakes/content.ts';
import { type CheckpointName, type CheckpointTensor, checkpointFiles, checkpointTensors, fileOf } from './fakes/model/checkpoints.ts';
import { tinyLlama } from './fakes/model.ts';
import { type Ended, Program, until } from './fakes/program.ts';
import { fillWorkspace } from './fakes/workspace.ts';
import { type Digest, expected } from './golden/answers.ts';

let workspace: string;
beforeEach(async () => {
  workspace = await mkdtemp(join(tmpdir(), 'compress-'));
});
afterEach(async () => await rm(workspace, { recursive: true }));

interface Compressed {
  ended: Ended;
  /** Its folder; undefined when it failed. */
  dir: string;
  manifest: Manifest;
}

async function run(args: readonly string[]): Promise<Compressed> {
  const ended = await new Program('compress', ['--workspace', workspace, ...args]).ended;
  if (ended.exitCode !== 0 || args.includes('--dry-run')) return { ended, dir: '', manifest: undefined as never };
  const path = join(workspace, (JSON.parse(ended.stdout) as { manifest: string }).manifest);
  return { ended, dir: path.replace(/\/manifest\.json$/, ''), manifest: parseManifest(await readFile(path), path) };
}

async function compressed(args: readonly string[]): Promise<Compressed> {
  const found = await run(args);
  expect(found.ended.exitCode, found.ended.stderr).toBe(0);
  return found;
}

/** Type, shape and digest of every tensor in a folder's files, as golden answers have them. */
async function tensorsIn(dir: string): Promise<Map<string, Digest>> {
  const found = new Map<string, Digest>();
  for (const name of (await readdir(join(dir, 'files'))).filter((each) => each.endsWith('.safetensors'))) {
    const bytes = await readFile(join(dir, 'files', name));
    await using file = await open(join(dir, 'files', name), 'r');
    for (const { name: tensor, dtype, shape, offset, size } of (await readHeader(file, name)).tensors) {
      const digest = createHash('sha256').update(bytes.subarray(offset, offset + size));
      found.set(tensor, [dtype, [...shape], digest.digest('hex').slice(0, 16)]);
    }
  }
  return found;
}

async function fill(name: CheckpointName, more: Record<string, string> = {}): Promise<Awaited<ReturnType<typeof fillWorkspace>>> {
  const others = Object.entries(more).map(([path, text]) => [path, Buffer.from(text)] as const);
  return await fillWorkspace(workspace, { ...Object.fromEntries(checkpointFiles(name)), ...Object.fromEntries(others) });
}

/** A model of those tensors. */
async function fillTensors(tensors: CheckpointTensor[], config: object = { model_type: 'llama', hidden_size: 256, vocab_size: 320 }) {
  const files = { 'config.json': Buffer.from(JSON.stringify(config)), 'model.safetensors': fileOf(tensors) };
  return await fillWorkspace(workspace, files);
}

function tensor(name: string, shape: number[], value = 0x3c23): CheckpointTensor {
  const bytes = Buffer.alloc(shape.reduce((a, b) => a * b, 2));
  for (let i = 0; i < bytes.length; i += 2) bytes.writeUInt16LE(value, i);
  return { name, dtype: 'BF16', shape, bytes };
}

async function manifestAndFiles(dir: string): Promise<Record<string, string>> {
  const manifest = await readFile(join(dir, 'manifest.json'));
  const { files } = parseManifest(manifest, dir);
  const digests = files.map(async ({ path, sha256 }) => {
    expect(sha256Of(await readFile(join(dir, 'files', path))), path).toBe(sha256);
    return [path, sha256] as const;
  });
  return { ...Object.fromEntries(await Promise.all(digests)), manifest: sha256Of(manifest) };
}

/** As a process left it that is gone. */
const deadLock = JSON.stringify({ ...ownHolder(), pid: 2 ** 22, startTime: '1' });

const schemeName = (method: Method) => method.toUpperCase().replaceAll('-', '_');

describe('the built program', () => {
  test.each(methods)('%s: tensors are those of the reference, byte for byte, and all others as they were', async (method) => {
    await fill('llama-bf16');
    const { dir, manifest } = await compressed(['--method', method]);
    const found = await tensorsIn(dir);
    const wanted = expected(`llama-bf16/${schemeName(method)}.f32`);
    expect(Object.fromEntries([...found].filter(([name]) => name in wanted))).toEqual(wanted);
    const untouched = checkpointTensors('llama-bf16').filter(({ name }) => !Object.keys(wanted).some((each) => each.startsWith(name)));
    expect(untouched.length).toBe(7);
    for (const { name, dtype, shape, bytes } of untouched)
      expect(found.get(name), name).toEqual([dtype, shape, sha256Of(bytes).slice(0, 16)]);
    expect(found.size).toBe(untouched.length + Object.keys(wanted).length);
    await manifestAndFiles(dir);
    expect(manifest.derived).toMatchObject({ method, config: {} });
    expect(dir.endsWith(`${'a'.repeat(40)}-${method}`)).toBe(true);
  });

  const others: [CheckpointName, Method, string[], string][] = [
    ['llama-bf16-sharded', 'w4a16', ['--arithmetic', 'native'], 'llama-bf16-sharded/W4A16'],
    // The reference refuses shards that cut a fused set; as one file they are the same.
    ['llama-bf16-sharded', 'nvfp4a16', [], 'llama-bf16/NVFP4A16.f32'],
    ['llama-f16', 'w8a8', ['--arithmetic', 'native'], 'llama-f16/W8A8'],
    ['llama-f32', 'w4a16-asym', [], 'llama-f32/W4A16_ASYM.f32'],
    ['llama-bf16', 'w4a16', ['--group-size', '32'], 'llama-bf16/W4A16_G32.f32'],
    ['odd-bf16', 'mxfp4', [], 'odd-bf16/MXFP4.f32'],
    ['moe-bf16', 'fp8-dynamic', [], 'moe-bf16/FP8_DYNAMIC.f32'],
  ];
  test.each(others)('%s by %s %j is %s', async (name, method, args, key) => {
    await fill(name);
    const { dir } = await compressed(['--method', method, ...args]);
    const [found, wanted] = [await tensorsIn(dir), expected(key)];
    expect(Object.fromEntries([...found].filter(([each]) => each in wanted))).toEqual(wanted);
  });

  test('leaves fused sets that do not fit whole, says why, and ignores exactly them', async () => {
    await fill('moe-bf16');
    const { dir } = await compressed(['--method', 'fp8-block']);
    const wanted = Object.entries(expected('moe-bf16/FP8_BLOCK.f32')).filter(([name]) => !/\.[qkv]_proj\./.test(name));
    const found = await tensorsIn(dir);
    expect(Object.fromEntries([...found].filter(([, [dtype]]) => dtype === 'F8_E4M3'))).toEqual(
      Object.fromEntries(wanted.filter(([name]) => name.endsWith('.weight'))),
    );
    const config = JSON.parse(await readFile(join(dir, 'files/config.json'), 'utf8')) as { quantization_config: { ignore: string[] } };
    expect(config.quantization_config.ignore).toEqual([
      're:.*lm_head$',
      're:.*embed_tokens$',
      're:.*(mlp|block_sparse_moe|feed_forward|moe|mixer)\\.gate$',
      're:.*q_proj$',
      're:.*k_proj$',
      're:.*v_proj$',
    ]);
    const report = JSON.parse(await readFile(join(dir, 'report.json'), 'utf8')) as { left: { module: string; reason: string }[] };
    expect(report.left).toContainEqual({
      module: 'model.layers.0.self_attn.k_proj',
      reason: 'its 64 rows are not a multiple of 128, and others follow in the same layer',
    });
  });

  test('gives gate and up of an expert one global scale, as servers want it', async () => {
    await fill('moe-bf16');
    const { dir } = await compressed(['--method', 'nvfp4a16']);
    const [found, theirs] = [await tensorsIn(dir), expected('moe-bf16/NVFP4A16.f32')];
    for (const expert of [0, 1, 2, 3]) {
      const scale = (part: string) => found.get(`model.layers.0.mlp.experts.${expert}.${part}.weight_global_scale`);
      expect(scale('gate_proj')).toEqual(scale('up_proj'));
    }
    const same = Object.entries(theirs).filter(([name]) => !/gate_proj|up_proj/.test(name));
    for (const [name, digest] of same) expect(found.get(name), name).toEqual(digest);
  });
});

describe('the folder', () => {
  test('has the other files as they were, a config that only gained a key, and no old weights', async () => {
    const card = '---\nlicense: mit\n---\n';
    const { filesDir, manifest: source } = await fill('llama-bf16', {
      'README.md': card,
      'sub/tokenizer.json': '{}',
      'pytorch_model.bin': 'old',
      'consolidated.safetensors': 'old',
    });
    const { dir, manifest, ended } = await compressed(['--method', 'fp8-dynamic']);
    expect(manifest.files.map(({ path }) => path)).toEqual([
      'README.md',
      'config.json',
      'model.safetensors',
      'model.safetensors.index.json',
      'sub/tokenizer.json',
    ]);
    expect(ended.stderr).toContain('pytorch_model.bin');
    expect((await lstat(join(dir, 'files/README.md'))).ino).toBe((await lstat(join(filesDir, 'README.md'))).ino);
    const before = await readFile(join(filesDir, 'config.json'), 'utf8');
    const after = await readFile(join(dir, 'files/config.json'), 'utf8');
    expect(after.startsWith(before.replace(/\n}$/, ',\n'))).toBe(true);
    const { quantization_config, ...rest } = JSON.parse(after) as Record<string, unknown>;
    expect(rest).toEqual(JSON.parse(before));
    expect(quantization_config).toMatchObject({ quant_method: 'compressed-tensors', format: 'float-quantized' });
    expect(manifest).toMatchObject({ source: source.source, selection: source.selection });
    expect(manifest.derived?.fromManifestSha256).toBe(sha256Of(await readFile(join(filesDir, '../manifest.json'))));
    expect(await readFile(join(dir, 'source.json'), 'utf8')).toBe(await readFile(join(filesDir, '../source.json'), 'utf8'));
    expect((await readdir(dir)).sort()).toEqual(['files', 'manifest.json', 'report.html', 'report.json', 'source.json']);
    expect(JSON.parse(ended.stdout)).toMatchObject({ 'file-count': '5', 'total-bytes': String(manifest.totalBytes) });
    const page = await readFile(join(dir, 'report.html'), 'utf8');
    expect(page).toContain('model.layers.1.mlp.down_proj');
    expect(page).not.toMatch(/<script|https?:/);
  });

  test('of other options is another one, and --dry-run tells its size to the byte', async () => {
    await fill('llama-bf16');
    const args = ['--method', 'w4a16', '--group-size', '64', '--ignore', '["re:.*layers\\\\.0\\\\..*down_proj$"]'];
    const dry = await run([...args, '--dry-run']);
    expect(dry.ended.exitCode, dry.ended.stderr).toBe(0);
    const told = JSON.parse(dry.ended.stdout) as Record<string, unknown>;
    expect(existsSync(String(told.folder))).toBe(false);
    const { dir, manifest } = await compressed(args);
    expect(dir).toMatch(/-w4a16-[0-9a-f]{8}$/);
    expect(told).toMatchObject({ folder: dir, bytesAfter: manifest.totalBytes, quantized: 13 });
    expect(manifest.derived?.config).toEqual({ groupSize: 64, ignore: ['re:.*layers\\.0\\..*down_proj$'] });
  });
});

test('names of any kind stay as they are, and are text in the report', async () => {
  const names = ['constructor', 'l.0.<img src=x onerror=alert(1)>&"\\', 'l.0.a b/..'].map((name) => `${name}.weight`);
  await fillTensors(names.map((name) => tensor(name, [256, 256])));
  const { dir } = await compressed(['--method', 'fp8-dynamic']);
  expect([...(await tensorsIn(dir)).keys()]).toEqual(names.flatMap((name) => [name, `${name}_scale`]));
  const page = await readFile(join(dir, 'report.html'), 'utf8');
  expect(page).toContain('&#60;img src=x onerror=alert(1)&#62;');
  expect(page).not.toContain('<img');
});

describe('config.json', () => {
  const quantization = quantizationConfig(schemeOf('w8a8'), ['re:.*lm_head$']);
  const withKey = (text: string) => withQuantization(Buffer.from(text), quantization).toString();

  test.each([
    '{}',
    '{"a": 1e-05, "b": [Infinity]}',
    '{\n  "rope_theta": 10000.0,\n  "n": 12345678901234567890\n}\n',
    '{\r\n\t"a": {"}": "é"}\r\n}\r\n',
  ])('%j keeps every byte, and gains one key', (text) => {
    const after = withKey(text);
    const before = text.slice(0, text.lastIndexOf('}')).trimEnd();
    expect(after.startsWith(before)).toBe(true);
    expect(after.endsWith(text.slice(text.lastIndexOf('}')))).toBe(true);
    const parsed = parseStrictJson(Buffer.from(after), { python: true }) as JsonObject;
    expect([...parsed.keys()].at(-1)).toBe('quantization_config');
    const added = after.slice(after.indexOf('"quantization_config":') + 22, after.lastIndexOf('}'));
    expect(JSON.parse(added)).toEqual(JSON.parse(JSON.stringify(quantization)));
  });

  test('that has the key as null gets its value', () => {
    expect(JSON.parse(withKey('{"quantization_config" : null, "a": 1}'))).toEqual({ quantization_config: quantization, a: 1 });
  });
});

test('a file that is written in any order has the hash of its bytes, also where more comes early than is kept', async () => {
  const path = join(workspace, 'out');
  const bytes = Buffer.alloc(24 * 1024 ** 2);
  for (let i = 0; i < bytes.length; i += 4) bytes.writeInt32LE(Math.imul(i, 2_654_435_761) | 0, i);
  const output = await OutputFile.create(path, bytes.length);
  const piece = 1024 ** 2 + 8;
  const offsets = Array.from({ length: Math.ceil(bytes.length / piece) }, (_, i) => i * piece);
  let released = 0;
  for (const offset of [...offsets.slice(1).reverse(), 0]) {
    await output.write(offset, bytes.subarray(offset, offset + piece), () => {
      released += 1;
    });
  }
  expect(await output.finish()).toBe(sha256Of(bytes));
  expect(released).toBe(offsets.length);
  expect((await readFile(path)).equals(bytes)).toBe(true);
});

describe('a run', () => {
  test('that was killed goes on with the next shard, and ends as if nothing had been', async () => {
    const files = Object.fromEntries([...tinyLlama({ shardBytes: 24_000_000 })].map(([path, content]) => [path, bytesOf(content)]));
    const { dir: source } = await fillWorkspace(workspace, files);
    const dir = `${source}-w8a8`;
    const [first, second] = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];
    const program = new Program('compress', ['--workspace', workspace, '--method', 'w8a8']);
    await until(() => existsSync(join(dir, `partial/${first}.done`)) || program.child.exitCode !== null);
    await program.kill('SIGKILL');
    expect(existsSync(join(dir, 'files', second))).toBe(false);
    expect(existsSync(join(dir, 'manifest.json'))).toBe(false);
    const { ino, mtimeMs } = await lstat(join(dir, 'files', first));
    const again = await compressed(['--method', 'w8a8']);
    expect(again.ended.stderr).toContain('shards of an ended run are there');
    expect(await lstat(join(dir, 'files', first))).toMatchObject({ ino, mtimeMs });
    const resumed = await manifestAndFiles(dir);
    const report = await readFile(join(dir, 'report.json'), 'utf8');
    await rm(dir, { recursive: true });
    await compressed(['--method', 'w8a8']);
    expect(await manifestAndFiles(dir)).toEqual(resumed);
    expect(await readFile(join(dir, 'report.json'), 'utf8')).toBe(report);
  });

  test('that is ended by SIGTERM says so, and leaves nothing that looks whole', async () => {
    const files = Object.fromEntries([...tinyLlama({ shardBytes: 24_000_000 })].map(([path, content]) => [path, bytesOf(content)]));
    const { dir: source } = await fillWorkspace(workspace, files);
    const program = new Program('compress', ['--workspace', workspace, '--method', 'nvfp4a16']);
    await until(() => existsSync(`${source}-nvfp4a16/partial/model-00001-of-00002.safetensors`) || program.child.exitCode !== null);
    expect((await program.kill('SIGTERM')).exitCode).toBe(143);
    expect(existsSync(`${source}-nvfp4a16/manifest.json`)).toBe(false);
  });

  test('that finds all done does nothing, whichever manifest it is given', async () => {
    const { dir: source } = await fill('llama-bf16');
    const { dir, ended } = await compressed(['--method', 'w4a16']);
    const { mtimeMs } = await lstat(join(dir, 'files/model.safetensors'));
    const newest = await compressed(['--method', 'w4a16']);
    const named = await compressed(['--method', 'w4a16', '--manifest', join(source, 'manifest.json')]);
    expect([newest.ended.stdout, named.ended.stdout]).toEqual([ended.stdout, ended.stdout]);
    expect(newest.ended.stderr).toContain('nothing to do');
    expect((await lstat(join(dir, 'files/model.safetensors'))).mtimeMs).toBe(mtimeMs);
    // The newest is a compressed one by now: its source is what another method takes.
    const other = await compressed(['--method', 'fp8-dynamic']);
    expect(other.manifest.derived?.fromManifestSha256).toBe(newest.manifest.derived?.fromManifestSha256);
    const twice = await run(['--method', 'w8a8', '--manifest', join(dir, 'manifest.json')]);
    expect(twice.ended).toMatchObject({ exitCode: 7, stderr: expect.stringContaining('by w4a16 already') });
  });

  test('with --remove-source leaves the smaller model alone, and its rerun too', async () => {
    const { dir: source, filesDir } = await fill('llama-bf16', { 'tokenizer.json': '{"a":1}' });
    const args = ['--method', 'w4a16', '--remove-source', '--manifest', join(source, 'manifest.json')];
    const { dir, ended } = await compressed(args);
    expect([existsSync(filesDir), existsSync(join(source, 'manifest.json'))]).toEqual([false, false]);
    await manifestAndFiles(dir);
    expect((await compressed(args)).ended.stdout).toBe(ended.stdout);
  });

  test('that was killed right before its end: the next one clears up behind it', async () => {
    const { dir: source } = await fill('llama-bf16', { 'tokenizer.json': '{"a":1}' });
    const { dir } = await compressed(['--method', 'w4a16']);
    const whole = await readdir(dir);
    await mkdir(join(dir, 'partial'));
    await writeFile(join(dir, 'partial/plan'), 'anything');
    await writeFile(join(dir, 'lock'), deadLock);
    await compressed(['--method', 'w4a16']);
    expect(await readdir(dir)).toEqual(whole);
    // Also when it had begun to delete its source.
    await rm(join(source, 'manifest.json'));
    await compressed(['--method', 'w4a16', '--remove-source']);
    expect(await readdir(source)).toEqual([]);
    await manifestAndFiles(dir);
  });

  test('that is asked to remove the source of what is there removes it, and no other model', async () => {
    const { dir: source } = await fill('llama-bf16');
    const { manifest } = await compressed(['--method', 'w4a16']);
    const own = await readFile(join(source, 'manifest.json'));
    await writeFile(join(source, 'manifest.json'), own.toString().replace(/[0-9a-f]{64}/, 'f'.repeat(64)));
    await utimes(join(source, 'manifest.json'), 0, 0);
    await compressed(['--method', 'w4a16', '--remove-source']);
    expect(existsSync(join(source, 'files'))).toBe(true);
    await writeFile(join(source, 'manifest.json'), own);
    await utimes(join(source, 'manifest.json'), 0, 0);
    expect((await compressed(['--method', 'w4a16', '--remove-source'])).manifest).toEqual(manifest);
    expect(await readdir(source)).toEqual([]);
  });

  test('passes the model on by method none, and by COMPRESS_MODEL=false; true is w4a16', async () => {
    await fill('llama-bf16');
    const env = { WORKSPACE: workspace };
    const none = await new Program('compress', [], { ...env, COMPRESS_MODEL: 'false' }).ended;
    expect(JSON.parse(none.stdout)).toMatchObject({ manifest: expect.stringMatching(/a{40}\/manifest\.json$/) });
    const some = await new Program('compress', [], { ...env, COMPRESS_MODEL: 'true' }).ended;
    expect(JSON.parse(some.stdout)).toMatchObject({ manifest: expect.stringMatching(/a{40}-w4a16\/manifest\.json$/) });
  });
});

describe('what is refused', () => {
  const proj = 'model.layers.0.mlp.down_proj.weight';

  async function fails(exitCode: number, text: string, args = ['--method', 'fp8-dynamic']): Promise<void> {
    const { ended } = await run(args);
    expect(ended, ended.stderr).toMatchObject({ exitCode, stdout: '', stderr: expect.stringContaining(text) });
    expect(ended.stderr).not.toContain('a bug of');
  }

  test.each([
    ['NaN', 0x7fc0],
    ['-Infinity', 0xff80],
  ])('a weight that is %s: by its tensor', async (what, bits) => {
    const weight = tensor(proj, [256, 256]);
    weight.bytes.writeUInt16LE(bits, (200 * 256 + 17) * 2);
    const { dir } = await fillTensors([tensor('model.norm.weight', [256]), weight]);
    await fails(6, `${proj} in model.safetensors: row 200, column 17 is ${what}`);
    expect(existsSync(`${dir}-fp8-dynamic/manifest.json`)).toBe(false);
    await fails(6, proj, ['--method', 'nvfp4a16']);
  });

  test('a source whose bytes are not those of its manifest', async () => {
    const { filesDir } = await fillTensors([tensor(proj, [256, 256])]);
    const path = join(filesDir, 'model.safetensors');
    const bytes = await readFile(path);
    bytes.writeUInt8(1, bytes.length - 9);
    await writeFile(path, bytes);
    await fails(6, 'model.safetensors: its sha256 is');
    await writeFile(path, bytes.subarray(0, -2));
    await fails(6, 'model.safetensors');
  });

  test('a broken file, by its name', async () => {
    const { manifest: _, filesDir } = await fillTensors([tensor(proj, [256, 256])]);
    const bytes = await readFile(join(filesDir, 'model.safetensors'));
    await fillWorkspace(workspace, { 'config.json': Buffer.from('{}'), 'model.safetensors': bytes.subarray(0, -512) });
    await fails(6, 'failed to read model.safetensors');
  });

  test('a model that is quantized already', async () => {
    await fillTensors([tensor(proj, [256, 256])], { quantization_config: { quant_method: 'gptq' } });
    await fails(7, 'quantized already');
    await fillTensors([{ ...tensor(proj, [256, 128]), dtype: 'F8_E4M3' as never, shape: [256, 256] }]);
    await fails(7, `${proj} is F8_E4M3`);
  });

  test('a model without safetensors, one of which a shard is missing, and one with nothing to quantize', async () => {
    await fillWorkspace(workspace, { 'config.json': Buffer.from('{}'), 'model.bin': Buffer.from('x') });
    await fails(7, 'no safetensors');
    const index = JSON.stringify({ weight_map: { a: 'model-2.safetensors' } });
    await fillWorkspace(workspace, { 'config.json': Buffer.from('{}'), 'model.safetensors.index.json': Buffer.from(index) });
    await fails(6, 'model-2.safetensors is missing');
    await fillTensors([tensor('model.embed_tokens.weight', [320, 256])]);
    await fails(7, 'none of its weights');
  });

  test('bad parameters, all at once, with nothing touched', async () => {
    const { dir } = await fill('llama-bf16');
    const args = ['--method', 'nvfp4a16', '--group-size', '32', '--ignore', 're:(?i)a', '--targets', 're:(?P<x>a)'];
    const { ended } = await run(args);
    expect(ended.exitCode).toBe(2);
    for (const part of ['--group-size 32', 're:(?i)a', 're:(?P<x>a)']) expect(ended.stderr).toContain(part);
    await fails(2, 're:.*no_such$', ['--method', 'w4a16', '--targets', 're:.*no_such$']);
    expect((await readdir(join(dir, '..'))).length).toBeLessThanOrEqual(2);
  });
});

test('what a run leaves that is killed while it carries a file over goes with the next', async () => {
  const [from, to] = [join(workspace, 'from'), join(workspace, 'to')];
  await mkdir(join(from, 'sub'), { recursive: true });
  await writeFile(join(from, 'sub', 'a.txt'), 'a');
  const files = [{ path: 'sub/a.txt', size: 1, sha256: sha256Of('a') }];
  const killed = `
    import { carryOver } from './tasks/compress/carry-over.ts';
    const signal = { throwIfAborted: () => (signal.asked ? process.kill(process.pid, 'SIGKILL') : (signal.asked = true)) };
    await carryOver(${JSON.stringify(files)}, ${JSON.stringify(from)}, ${JSON.stringify(to)}, signal);`;
  const cwd = join(import.meta.dirname, '..');
  const { signal } = spawnSync(process.execPath, ['--input-type=module', '-e', killed], { cwd });
  expect([signal, await readdir(join(to, 'sub'))]).toEqual(['SIGKILL', [expect.stringMatching(/\.tmp$/)]]);
  await carryOver(files, from, to, AbortSignal.timeout(60_000));
  expect(await readdir(join(to, 'sub'))).toEqual(['a.txt']);
});
