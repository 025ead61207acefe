import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, truncate, utimes, writeFile } from 'node:fs/promises';
import { createServer, request as httpRequest } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { sha256Of } from '../lib/integrity.ts';
import type { Manifest } from '../lib/manifest.ts';
import { download } from '../tasks/download/step.ts';
import { makeCertificate } from './fakes/certificate.ts';
import { bytesOf, type Files, sizeOf } from './fakes/content.ts';
import { FakeHub, tooManyRequests } from './fakes/hub.ts';
import { tinyLlama } from './fakes/model.ts';
import { type Ended, Program, runInProcess, until } from './fakes/program.ts';
import type { Fault } from './fakes/server.ts';

const files = tinyLlama({ junk: true });
const large = tinyLlama({ shardBytes: 6_000_000 });
const [shardOne, shardTwo] = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];
const token = 'hf_token_with_access';

let fake: FakeHub;
let dir: string;
let env: Record<string, string>;
beforeEach(async () => {
  fake = await new FakeHub({ tokens: { [token]: { access: ['acme/gated', 'acme/private'] }, outsider_token: {} } }).listen();
  fake.addRepo({ id: 'acme/tiny', files });
  fake.addRepo({ id: 'acme/large', files: large });
  fake.addRepo({ id: 'acme/gated', files, gated: 'auto' });
  fake.addRepo({ id: 'acme/private', files, private: true });
  dir = await mkdtemp(join(tmpdir(), 'download-'));
  env = { MODEL_ID: 'acme/tiny', HF_ENDPOINT: fake.origin, WORKSPACE: join(dir, 'workspace'), STALL_TIMEOUT: '10s' };
});
afterEach(async () => {
  await fake.close();
  await rm(dir, { recursive: true });
});

const run = (argv: readonly string[] = [], more: Record<string, string> = {}) => runInProcess(download, argv, { ...env, ...more });
const program = (more: Record<string, string> = {}) => new Program('download', [], { ...env, ...more });

/** The folder of a model in the workspace. */
function folder(id = 'acme/tiny', suffix = ''): string {
  return join(env.WORKSPACE ?? '', id.replace('/', '--'), `${fake.repo(id).sha()}${suffix}`);
}

async function tree(of: string): Promise<string[]> {
  const entries = await readdir(of, { withFileTypes: true, recursive: true });
  const paths = entries.filter((entry) => !entry.isDirectory()).map((entry) => join(entry.parentPath, entry.name).slice(of.length + 1));
  return paths.sort();
}

/** The folder holds these files and nothing else, and its manifest tells them. */
async function expectWhole(at: string, expected: Files = files): Promise<void> {
  expect(await tree(at)).toEqual(['manifest.json', 'source.json', ...[...expected.keys()].map((path) => `files/${path}`)].sort());
  const manifest = JSON.parse(await readFile(join(at, 'manifest.json'), 'utf8')) as Manifest;
  expect(manifest.files.map(({ path }) => path)).toEqual([...expected.keys()].sort());
  for (const { path, size, sha256 } of manifest.files) {
    const bytes = await readFile(join(at, 'files', path));
    expect(bytes.equals(bytesOf(expected.get(path)!)), path).toBe(true);
    expect({ size, sha256 }).toEqual({ size: bytes.length, sha256: sha256Of(bytes) });
  }
}

/** All that lies in the workspace, empty folders too. */
async function left(): Promise<string[]> {
  return await readdir(env.WORKSPACE ?? '', { recursive: true }).catch(() => []);
}

const fetched = () => [...fake.seen(/\/resolve\//), ...fake.cdn.requests];
const cdnBytes = () => fake.cdn.requests.reduce((sum, { bytesOut }) => sum + bytesOut, 0);

describe('a download', () => {
  test('brings every file, verified, and tells it', async () => {
    const resultsDir = join(dir, 'results');
    const ended = await run([`--results-dir=${resultsDir}`]);
    expect(ended.exitCode, ended.stderr).toBe(0);
    await expectWhole(folder());
    const manifest = await readFile(join(folder(), 'manifest.json'));
    expect(JSON.parse(ended.stdout)).toEqual(ended.results);
    expect(ended.results).toEqual({
      manifest: `acme--tiny/${fake.repo('acme/tiny').sha()}/manifest.json`,
      'manifest-sha256': sha256Of(manifest),
      commit: fake.repo('acme/tiny').sha(),
      'file-count': String(files.size),
      'total-bytes': String([...files.values()].reduce((sum, content) => sum + sizeOf(content), 0)),
    });
    expect(await readFile(join(resultsDir, 'manifest-sha256'), 'utf8')).toBe(sha256Of(manifest));
    expect(JSON.parse(await readFile(join(folder(), 'source.json'), 'utf8'))).toMatchObject({
      url: `${fake.origin}/acme/tiny`,
      revision: 'main',
      license: 'apache-2.0',
      gated: false,
      pipelineTag: 'text-generation',
      library: 'transformers',
      tags: expect.arrayContaining(['llama']),
    });
  });

  test('moves large files as parts, each byte once', async () => {
    const ended = await run([], { MODEL_ID: 'acme/large', PART_SIZE: '1MiB', CONCURRENCY: '4' });
    expect(ended.exitCode, ended.stderr).toBe(0);
    await expectWhole(folder('acme/large'), large);
    expect(cdnBytes()).toBe(12_000_000);
    expect(fake.cdn.requests).toHaveLength(12);
    // Two redirects, whatever the number of parts.
    expect(fake.seen(/\/resolve\/.*safetensors$/)).toHaveLength(2);
  });

  test('works in little memory, with parts of any size', async () => {
    const ended = await run([], { MODEL_ID: 'acme/large', PART_SIZE: '1GiB', MAX_MEMORY: '1MiB', CONCURRENCY: '64' });
    expect(ended.exitCode, ended.stderr).toBe(0);
    expect(ended.stderr).toContain('--max-memory is less than 160MiB');
    await expectWhole(folder('acme/large'), large);
  });

  test('gets the same manifest whatever the way', async () => {
    fake.repo('acme/tiny').tag('v1');
    const one = await run(['--concurrency=1', '--part-size=10kB']);
    const two = await run(['--revision=v1', `--workspace=${join(dir, 'other')}`]);
    expect(one.results['manifest-sha256']).toBe(two.results['manifest-sha256']);
  });

  test('a second one fetches nothing, and its model is the newest', async () => {
    await run();
    await utimes(join(folder(), 'manifest.json'), 1, 1);
    const before = fake.requests.length;
    const again = await run();
    expect(again.exitCode, again.stderr).toBe(0);
    expect(fake.requests.slice(before).map(({ url }) => url)).toEqual(['/api/models/acme/tiny/revision/main']);
    expect(again.stdout).toBe(`${JSON.stringify(again.results)}\n`);
    expect((await stat(join(folder(), 'manifest.json'))).mtimeMs).toBeGreaterThan(1e12);
    await expectWhole(folder());
  });

  test('a selection has a folder of its own', async () => {
    const selected = await run(['--allow-patterns', '*.json README.md', '--ignore-patterns=original/']);
    expect(selected.exitCode, selected.stderr).toBe(0);
    expect(selected.results.manifest).toMatch(/^acme--tiny\/[0-9a-f]{40}-s[0-9a-f]{8}\/manifest\.json$/);
    const wanted = [...files].filter(([path]) => /^(?!original\/).*\.json$|^README/.test(path));
    await expectWhole(join(env.WORKSPACE ?? '', String(selected.results.manifest).replace('/manifest.json', '')), new Map(wanted));
    expect(existsSync(folder())).toBe(false);
  });

  test('tells its progress to Argo', async () => {
    const file = join(dir, 'progress');
    await run([], { ARGO_PROGRESS_FILE: file });
    const total = [...files.values()].reduce((sum, content) => sum + sizeOf(content), 0);
    expect(await readFile(file, 'utf8')).toBe(`${total}/${total}\n`);
  });

  test('--skip-tasks passes the newest manifest of this model on, and asks nobody', async () => {
    await run();
    await run([], { MODEL_ID: 'acme/large' });
    const before = fake.requests.length;
    for (const words of [['--skip-tasks=download'], ['--skip-tasks=a,pull', '--task-name=pull']]) {
      const skipped = await run(words);
      expect(skipped.exitCode, skipped.stderr).toBe(0);
      expect(skipped.results.commit).toBe(fake.repo('acme/tiny').sha());
    }
    expect(fake.requests).toHaveLength(before);
    expect((await run(['--skip-tasks=download'], { MODEL_ID: 'acme/none' })).exitCode).toBe(3);
  });
});

describe('what is there already', () => {
  test('--verify finds a byte that has changed, and mends it', async () => {
    await run();
    const path = join(folder(), 'files', shardOne);
    const bytes = await readFile(path);
    bytes[1000] = ~bytes[1000]! & 0xff;
    await writeFile(path, bytes);
    expect((await run(['--verify'])).exitCode).toBe(0);
    await expectWhole(folder());
    const before = fetched().length;
    expect((await run(['--verify'])).exitCode).toBe(0);
    expect(fetched()).toHaveLength(before);
  });

  test.each([
    ['is missing', (path: string) => rm(path)],
    ['is too short', (path: string) => truncate(path, 10)],
    ['is a link', (path: string) => rm(path).then(() => symlink('/etc/hostname', path))],
    ['is a folder', (path: string) => rm(path).then(() => mkdir(join(path, 'x'), { recursive: true }))],
  ])('a file that %s comes again, alone', async (_, spoil) => {
    await run();
    await spoil(join(folder(), 'files', shardOne));
    fake.requests.length = 0;
    expect((await run()).exitCode).toBe(0);
    await expectWhole(folder());
    expect(fake.seen(/\/resolve\//).map(({ url }) => url.split('/').at(-1))).toEqual([shardOne]);
  });

  test('what does not belong to the model goes, and links are not followed', async () => {
    const outside = join(dir, 'outside');
    await mkdir(outside);
    await writeFile(join(outside, 'precious'), 'x');
    await run();
    await writeFile(join(folder(), 'files', 'extra.bin'), 'x');
    await mkdir(join(folder(), 'files', 'more', 'folders'), { recursive: true });
    await rm(join(folder(), 'files', 'examples'), { recursive: true });
    await symlink(outside, join(folder(), 'files', 'examples'));
    await symlink(outside, join(folder(), 'files', 'link'));
    expect((await run()).exitCode).toBe(0);
    await expectWhole(folder());
    expect(await readdir(join(folder(), 'files'))).not.toContain('more');
    expect(await readdir(outside)).toEqual(['precious']);
  });

  test('a folder that is a link is refused', async () => {
    await mkdir(folder(), { recursive: true });
    await symlink(dir, join(folder(), 'files'));
    expect((await run()).exitCode).toBe(7);
  });

  test.each([
    ['no JSON', () => '{'],
    ['of other files', (text: string) => text.replace('config.json', 'konfig.json')],
    ['with a longer form', (text: string) => JSON.stringify(JSON.parse(text))],
  ])('a manifest that is %s is not believed', async (_, change) => {
    const first = await run();
    const path = join(folder(), 'manifest.json');
    await writeFile(path, change(await readFile(path, 'utf8')));
    const before = fetched().length;
    const again = await run();
    expect(again.results).toEqual(first.results);
    expect(fetched()).toHaveLength(before);
    await expectWhole(folder());
  });

  test('files of a run that ended before its manifest are hashed, not fetched', async () => {
    await run();
    await rm(join(folder(), 'manifest.json'));
    const bytes = await readFile(join(folder(), 'files', 'config.json'));
    bytes[5] = 0;
    await writeFile(join(folder(), 'files', 'config.json'), bytes);
    fake.requests.length = 0;
    fake.cdn.requests.length = 0;
    expect((await run()).exitCode).toBe(0);
    await expectWhole(folder());
    expect(fetched().map(({ url }) => url.split('/').at(-1))).toEqual(['config.json']);
  });
});

describe('faults', () => {
  const passing: [string, 'hub' | 'cdn', Fault][] = [
    ['503 of the Hub', 'hub', { on: /resolve/, times: 2, answer: { status: 503 } }],
    ['429 with Retry-After', 'hub', { on: /resolve/, times: 2, answer: tooManyRequests(0) }],
    ['503 of the CDN', 'cdn', { on: /./, times: 2, answer: { status: 503 } }],
    ['a cut body', 'cdn', { on: /./, times: 2, cutAfter: 30_000 }],
    ['a short body', 'cdn', { on: /./, times: 2, shortAfter: 30_000 }],
    ['a small file that is cut', 'hub', { on: /resolve-cache.*config/, cutAfter: 10 }],
    ['a connection that is reset', 'cdn', { on: /./, times: 2, cutAfter: -1 }],
    ['one that goes silent', 'cdn', { on: /./, stallAfter: 30_000 }],
    ['one that never answers', 'cdn', { on: /./, stallAfter: -1 }],
    ['a wrong byte, once', 'cdn', { on: /./, flipByteAt: 100 }],
    ['a wrong byte in a small file, once', 'hub', { on: /resolve-cache.*config/, flipByteAt: 5 }],
  ];
  test.each(passing)('gets over %s', async (_, server, fault) => {
    fake[server].fail(fault);
    const ended = await run(['--stall-timeout=300ms']);
    expect(ended.exitCode, ended.stderr).toBe(0);
    await expectWhole(folder());
  });

  test.each([shardOne, 'config.json'])('a wrong byte in %s that stays is integrity, and nothing says that it is there', async (path) => {
    const server = path === shardOne ? fake.cdn : fake.hub;
    const sha256 = sha256Of(bytesOf(files.get(shardOne)!));
    server.fail({ on: path === shardOne ? new RegExp(sha256) : /resolve-cache.*\/config/, times: 99, flipByteAt: 50 });
    const ended = await run();
    expect(ended.exitCode).toBe(6);
    expect(ended.stdout).toBe('');
    expect(JSON.parse(ended.stderr.trim().split('\n').at(-1) ?? '')).toMatchObject({
      kind: 'integrity',
      msg: expect.stringContaining(path),
    });
    const left = await tree(folder());
    expect(left).not.toContain('manifest.json');
    expect(left.filter((each) => each.endsWith(`/${path}`))).toEqual([]);
    server.clearFaults();
    expect((await run()).exitCode).toBe(0);
    await expectWhole(folder());
  });

  test('a CDN that is down for good is transient; the rest of it comes later', async () => {
    fake.cdn.fail({ on: /./, times: 999, answer: { status: 500 } });
    expect((await run(['--retries=1'])).exitCode).toBe(5);
    expect(existsSync(join(folder(), 'manifest.json'))).toBe(false);
    expect(existsSync(join(folder(), 'lock'))).toBe(false);
    fake.cdn.clearFaults();
    expect((await run()).exitCode).toBe(0);
  });

  test('servers that know no ranges', async () => {
    await fake.close();
    fake = await new FakeHub({ ranges: false }).listen();
    fake.addRepo({ id: 'acme/large', files: large });
    const ended = await run([], { MODEL_ID: 'acme/large', HF_ENDPOINT: fake.origin, PART_SIZE: '1MiB' });
    expect(ended.exitCode, ended.stderr).toBe(0);
    await expectWhole(folder('acme/large'), large);
  });

  test.each([
    ['missing model', ['--model-id=acme/none'], {}, 3],
    ['missing revision', ['--revision=none'], {}, 3],
    ['no match', ['--allow-patterns=*.nothing'], {}, 3],
    ['private model', ['--model-id=acme/private'], {}, 3],
    ['gated model', ['--model-id=acme/gated', '--ignore-patterns=empty.txt'], {}, 4],
    ['gated model of others', ['--model-id=acme/gated', '--ignore-patterns=empty.txt'], { HF_TOKEN: 'outsider_token' }, 4],
    ['bad token', [], { HF_TOKEN: 'hf_nobody_knows_it' }, 4],
    ['wrong parameters', ['--model-id=../x', '--part-size=much', '--unknown=1'], {}, 2],
    ['no address', ['--hub-url=https://'], {}, 2],
    ['nobody there', ['--hub-url=http://127.0.0.1:9', '--retries=0'], {}, 5],
  ])('%s', async (_, words, more, exitCode) => {
    const ended = await run(words, more as Record<string, string>);
    expect(ended.exitCode, ended.stderr).toBe(exitCode);
    expect(ended.stdout).toBe('');
    const last = JSON.parse(ended.stderr.trim().split('\n').at(-1) ?? '') as Record<string, string>;
    expect(last.msg).toMatch(/^failed to .+: .+/);
    expect(last.hint).toBeDefined();
    expect(last.stack).toBeUndefined();
    for (const secret of Object.values(more)) expect(ended.stderr).not.toContain(secret);
    expect(await left()).toEqual([]);
  });

  test.each([
    ['a licence', ['--deny-licenses=apache-*']],
    ['files that only a loader could make safe', ['--allow-unsafe=never']],
  ])('what the policy refuses for %s leaves nothing', async (_, words) => {
    const ended = await run(words, { MODEL_ID: 'acme/tiny' });
    expect(ended.exitCode, ended.stderr).toBe(7);
    expect(await left()).toEqual([]);
  });

  test('a refusal leaves alone what is there of the model, and other models', async () => {
    const begun = join(folder(), 'partial', 'config.json');
    await mkdir(join(folder(), 'partial'), { recursive: true });
    await writeFile(begun, '{');
    await mkdir(join(env.WORKSPACE ?? '', 'acme--tiny', 'c'.repeat(40)), { recursive: true });
    expect((await run(['--deny-licenses=apache-*'])).exitCode).toBe(7);
    expect(existsSync(begun)).toBe(true);
    expect(await readdir(join(env.WORKSPACE ?? '', 'acme--tiny'))).toHaveLength(2);
  });

  test('a model too large for the volume is refused before the first byte', async () => {
    const body = JSON.stringify([{ type: 'file', path: 'model.bin', size: 9e15, oid: 'a'.repeat(40) }]);
    fake.fail({ on: /tree/, answer: { status: 200, body } });
    const ended = await run();
    expect(ended.exitCode).toBe(7);
    expect(ended.stderr).toContain('9000000000000000 are needed');
    expect(fetched()).toEqual([]);
    expect(await left()).toEqual([]);
  });

  const oid = 'a'.repeat(40);
  test.each([
    ['../x', 'leaves its folder'],
    ['a/../../x', 'leaves its folder'],
    ['/etc/passwd', 'is absolute'],
    ['a\0b', 'has a NUL byte'],
    ['a//b', 'empty component'],
    [`${'a'.repeat(256)}/b`, 'over 255 bytes'],
    [`${'ü'.repeat(128)}`, 'over 255 bytes'],
  ])('a listing with %j is refused by name', async (path, why) => {
    const body = JSON.stringify(['config.json', path].map((each) => ({ type: 'file', path: each, size: 1, oid })));
    fake.fail({ on: /tree/, answer: { status: 200, body } });
    const ended = await run();
    expect(ended.exitCode).toBe(7);
    expect(ended.stderr).toContain(why);
    expect(fetched()).toEqual([]);
    expect([await readdir(dir), await left()]).toEqual([['workspace'], []]);
  });
});

describe('tokens', () => {
  async function expectBrought(id: string, ended: Ended): Promise<void> {
    expect(ended.exitCode, ended.stderr).toBe(0);
    await expectWhole(folder(id));
    expect(ended.stderr + ended.stdout).not.toContain(token);
    expect(fake.requests.every(({ headers }) => headers.authorization === `Bearer ${token}`)).toBe(true);
    expect(fake.cdn.requests.length).toBeGreaterThan(0);
    expect(fake.cdn.requests.filter(({ headers }) => headers.authorization !== undefined)).toEqual([]);
  }

  test.each(['HF_TOKEN', 'HUGGINGFACE_TOKEN', 'HUB_TOKEN'])('%s opens gated and private models, and never leaves the Hub', async (name) => {
    await expectBrought('acme/gated', await run(['--model-id=acme/gated', '--log-level=trace'], { [name]: token }));
    await expectBrought('acme/private', await run(['--model-id=acme/private'], { [name]: token }));
  });

  test.each(['HF_TOKEN_FILE', 'HF_TOKEN_PATH'])('%s names a file', async (name) => {
    const path = join(dir, 'token');
    await writeFile(path, `${token}\n`);
    await expectBrought('acme/gated', await run(['--model-id=acme/gated'], { [name]: path }));
  });
});

describe('--dry-run', () => {
  test('tells machines what would move, and touches nothing', async () => {
    const ended = await run(['--dry-run', '--profile=vllm', `--results-dir=${join(dir, 'results')}`], { MODEL_ID: 'acme/gated' });
    expect(ended.exitCode, ended.stderr).toBe(0);
    const plan = JSON.parse(ended.stdout) as Record<string, unknown>;
    expect(plan).toMatchObject({ model: 'acme/gated', commit: fake.repo('acme/gated').sha(), license: 'apache-2.0', gated: 'auto' });
    expect(plan.files).toContainEqual({ path: shardOne, size: sizeOf(files.get(shardOne)!) });
    expect(plan.files).not.toContainEqual(expect.objectContaining({ path: 'pytorch_model.bin' }));
    expect(plan.bytesToMove).toBe(plan.totalBytes);
    expect(fetched()).toEqual([]);
    expect(await readdir(dir)).toEqual([]);
  });

  test('an empty file is not there before it was brought', async () => {
    fake.addRepo({ id: 'acme/one', files: new Map([['empty.txt', Buffer.alloc(0)]]) });
    const plan = async () => JSON.parse((await run(['--dry-run'], { MODEL_ID: 'acme/one' })).stdout) as unknown;
    expect(await plan()).toMatchObject({ move: { files: 1 }, skip: { files: 0 } });
    await run([], { MODEL_ID: 'acme/one' });
    expect(await plan()).toMatchObject({ move: { files: 0 }, skip: { files: 1 } });
  });

  test('knows what is there', async () => {
    await run();
    expect(JSON.parse((await run(['--dry-run'])).stdout)).toMatchObject({
      bytesToMove: 0,
      move: { files: 0, bytes: 0 },
      skip: { files: files.size },
      parts: 0,
    });
  });
});

describe('the built program', () => {
  /** Starts a download whose bytes stop coming in the middle, and waits until that. */
  async function startAndStall(): Promise<Program> {
    const more = { MODEL_ID: 'acme/large', PART_SIZE: '500kB', CONCURRENCY: '3', STALL_TIMEOUT: '60s' };
    fake.cdn.fail({ on: /./, skip: 8, times: 999, stallAfter: 100_000 });
    const started = program(more);
    await until(() => fake.cdn.requests.filter(({ bytesOut }) => bytesOut === 100_000).length === 3);
    await expect.poll(bytesThere, { interval: 5, timeout: 30_000 }).toBeGreaterThanOrEqual(500_000);
    return started;
  }

  const sizeAt = async (path: string) => (await stat(path).catch(() => ({ size: 0 }))).size;

  /** Bytes of LFS files that are there, and that a rerun need not ask for. */
  async function bytesThere(): Promise<number> {
    let sum = 0;
    for (const part of ['files', 'partial']) {
      for (const shard of [shardOne, shardTwo])
        sum += (await stat(join(folder('acme/large'), part, shard)).catch(() => ({ size: 0 }))).size;
    }
    return sum;
  }

  async function expectGoesOn(more: Record<string, string> = {}): Promise<void> {
    const there = await bytesThere();
    expect(there).toBeGreaterThanOrEqual(500_000);
    expect(existsSync(join(folder('acme/large'), 'manifest.json'))).toBe(false);
    fake.cdn.clearFaults();
    fake.cdn.requests.length = 0;
    const again = await program({ MODEL_ID: 'acme/large', ...more }).ended;
    expect(again.exitCode, again.stderr).toBe(0);
    expect(cdnBytes()).toBe(12_000_000 - there);
    await expectWhole(folder('acme/large'), large);
  }

  test('goes on after kill -9 with the bytes that are missing, at once', async () => {
    await (await startAndStall()).kill('SIGKILL');
    expect(existsSync(join(folder('acme/large'), 'lock'))).toBe(true);
    await expectGoesOn();
  });

  test('ends with 143 on SIGTERM, and a rerun goes on', async () => {
    const ended = await (await startAndStall()).kill('SIGTERM');
    expect(ended.exitCode).toBe(143);
    expect(ended.stdout).toBe('');
    expect(existsSync(join(folder('acme/large'), 'lock'))).toBe(false);
    await expectGoesOn({ PART_SIZE: '1MB' });
  });

  test('begins a file again when its beginning is wrong', async () => {
    await (await startAndStall()).kill('SIGKILL');
    const [one, two] = [shardOne, shardTwo].map((shard) => join(folder('acme/large'), 'partial', shard)) as [string, string];
    const path = (await sizeAt(one)) > 0 ? one : two;
    const bytes = await readFile(path);
    bytes[10] = ~bytes[10]! & 0xff;
    await writeFile(path, bytes);
    fake.cdn.clearFaults();
    const again = await program({ MODEL_ID: 'acme/large' }).ended;
    expect(again.exitCode, again.stderr).toBe(0);
    expect(again.stderr).toContain('wrong bytes');
    await expectWhole(folder('acme/large'), large);
  });

  test('two at once: one brings it, the other waits and has nothing to do', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    fake.cdn.fail({ on: /./, hold: promise });
    const one = program();
    await until(() => fake.cdn.requests.length > 0);
    const two = program();
    let said = '';
    two.child.stderr?.on('data', (chunk) => {
      said += chunk;
    });
    await until(() => said.includes('waiting for another run'));
    resolve();
    const [first, second] = await Promise.all([one.ended, two.ended]);
    expect([first.exitCode, second.exitCode], first.stderr + second.stderr).toEqual([0, 0]);
    expect(second.stderr).toContain('nothing to do');
    expect(second.stdout).toBe(first.stdout);
    expect(fake.seen(/\/tree\//)).toHaveLength(1);
    await expectWhole(folder());
  });

  const certificate = makeCertificate();
  describe.runIf(certificate)('over TLS', () => {
    let bundle: string;
    beforeEach(async () => {
      await fake.close();
      fake = await new FakeHub().listen({ tls: certificate! });
      fake.addRepo({ id: 'acme/large', files: large });
      bundle = join(dir, 'ca.pem');
      await writeFile(bundle, certificate!.cert);
      Object.assign(env, { MODEL_ID: 'acme/large', HF_ENDPOINT: fake.origin, PART_SIZE: '1MiB' });
    });

    test.each(['CA_BUNDLE', 'SSL_CERT_FILE'])('trusts what %s names', async (name) => {
      const ended = await program({ [name]: bundle }).ended;
      expect(ended.exitCode, ended.stderr).toBe(0);
      await expectWhole(folder('acme/large'), large);
    });

    test('and nothing else', async () => {
      const ended = await program().ended;
      expect(ended.exitCode).toBe(2);
      expect(ended.stderr).toContain('--ca-bundle');
    });

    test('--insecure-skip-tls-verify says so', async () => {
      const ended = await program({ INSECURE_SKIP_TLS_VERIFY: 'true' }).ended;
      expect(ended.exitCode, ended.stderr).toBe(0);
      expect(ended.stderr).toContain('not verified');
    });

    test('through a proxy', async () => {
      const proxy = await startProxy();
      const ended = await program({ CA_BUNDLE: bundle, HTTPS_PROXY: proxy.origin }).ended;
      expect(ended.exitCode, ended.stderr).toBe(0);
      await expectWhole(folder('acme/large'), large);
      expect(new Set(proxy.seen)).toEqual(new Set([fake.origin, fake.cdn.origin].map((origin) => `CONNECT ${new URL(origin).host}`)));
      await proxy.close();
    });
  });

  test('through a proxy, but for NO_PROXY', async () => {
    const proxy = await startProxy();
    const ended = await program({ HTTP_PROXY: proxy.origin }).ended;
    expect(ended.exitCode, ended.stderr).toBe(0);
    expect(proxy.seen).toHaveLength(fake.requests.length + fake.cdn.requests.length);
    await rm(env.WORKSPACE ?? '', { recursive: true });
    const before = proxy.seen.length;
    expect((await program({ HTTP_PROXY: proxy.origin, NO_PROXY: '127.0.0.1' }).ended).exitCode).toBe(0);
    expect(proxy.seen).toHaveLength(before);
    await proxy.close();
  });
});

/** A proxy that forwards http and tunnels https, and notes what it is asked. */
async function startProxy(): Promise<{ origin: string; seen: string[]; close(): Promise<void> }> {
  const seen: string[] = [];
  const server = createServer((request, response) => {
    seen.push(`${request.method} ${request.url}`);
    const forward = httpRequest(request.url ?? '', { method: request.method, headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    forward.on('error', () => response.destroy());
    request.pipe(forward);
  });
  server.on('connect', (request, socket) => {
    seen.push(`CONNECT ${request.url}`);
    const { hostname, port } = new URL(`http://${request.url}`);
    const target = connect(Number(port), hostname, () => {
      socket.write('HTTP/1.1 200 Connection Established\r\n\r\n');
      target.pipe(socket).pipe(target);
    });
    target.on('error', () => socket.destroy());
    socket.on('error', () => target.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const close = () =>
    new Promise<void>((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  return { origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, seen, close };
}
