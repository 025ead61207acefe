import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { download } from '../tasks/download/step.ts';
import { sync } from '../tasks/sync/step.ts';
import { upload } from '../tasks/upload/step.ts';
import { bytesOf } from './fakes/content.ts';
import { FakeHub, type HubOptions, tooManyRequests } from './fakes/hub.ts';
import { tinyLlama } from './fakes/model.ts';
import { Program, runInProcess, until } from './fakes/program.ts';
import { FakeS3, s3Answer } from './fakes/s3.ts';
import type { Fault, SeenRequest } from './fakes/server.ts';

const large = tinyLlama({ shardBytes: 17_000_000 });
const shard = 'model-00001-of-00002.safetensors';
const total = [...large.values()].reduce((sum, content) => sum + bytesOf(content).length, 0);
const secondRange = ({ headers }: SeenRequest) => headers.range === 'bytes=5242880-10485759';

let hub: FakeHub;
let s3: FakeS3;
let dir: string;
let env: Record<string, string>;
let prefix: string;
let files: typeof large;
beforeEach(async () => {
  files = large;
  hub = new FakeHub();
  s3 = new FakeS3();
  await Promise.all([hub.listen(), s3.listen()]);
  s3.createBucket('models');
  const repo = hub.addRepo({ id: 'acme/tiny', files });
  prefix = `model-data/tiny/${repo.sha('main').slice(0, 12)}`;
  dir = await mkdtemp(join(tmpdir(), 'sync-'));
  env = {
    MODEL_ID: 'acme/tiny',
    HF_ENDPOINT: hub.origin,
    S3_BUCKET: 'models',
    S3_ENDPOINT: s3.origin,
    AWS_ACCESS_KEY_ID: s3.credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: s3.credentials.secretAccessKey,
    PART_SIZE: '5MiB',
    STALL_TIMEOUT: '10s',
  };
});
afterEach(async () => {
  await Promise.all([hub.close(), s3.close()]);
  await rm(dir, { recursive: true });
});

const manifest = (of = prefix) => s3.object('models', `.modelferry/manifests/${of}.json`);
const names = (of = prefix) => s3.keys('models', `${of}/`).map((key) => key.slice(of.length + 1));
const parts = () => s3.seen(/^PUT .*partNumber/).filter(({ status }) => status === 200).length;

async function expectPublished(): Promise<void> {
  expect(names()).toEqual([...files.keys()].sort());
  for (const [path, content] of files) {
    const object = s3.object('models', `${prefix}/${path}`);
    expect((await object?.bytes())?.equals(bytesOf(content)), path).toBe(true);
  }
  expect(manifest()).toBeDefined();
  expect(s3.uploads('models')).toEqual([]);
  expect(s3.keys('models', '.modelferry/claims/')).toEqual([]);
}

describe('sync', () => {
  test('a run that another one took over from puts its file once more while that one publishes: nothing is wrong with it', async () => {
    files = tinyLlama();
    prefix = prefix.replace(/[^/]*$/, hub.addRepo({ id: 'acme/tiny', files }).sha('main').slice(0, 12));
    // Equal bytes have another ETag each time.
    env = { ...env, S3_SSE: 'aws:kms', RUN_ID: 'run-1' };
    const [late, listed] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    hub.cdn.fail({ on: /./, hold: late.promise });
    const first = runInProcess(sync, [], env);
    await until(() => hub.cdn.requests.length > 0);
    let sealing = false;
    const on = ({ url }: SeenRequest) => {
      const all = url.includes('list-type=2') && names().length === files.size;
      sealing ||= all;
      return all;
    };
    s3.fail({ on, hold: listed.promise });
    const second = runInProcess(sync, [], env);
    await until(() => sealing);
    late.resolve();
    expect(await first).toMatchObject({ exitCode: 5, stderr: expect.stringContaining('another run took over') });
    listed.resolve();
    const { exitCode, stderr } = await second;
    expect(exitCode, stderr).toBe(0);
    await expectPublished();
  });

  test('publishes the same model as download and upload do, manifest byte for byte, and touches no disk', async () => {
    const program = new Program('sync', [], env, dir);
    const { exitCode, stdout, stderr } = await program.ended;
    expect(exitCode, stderr).toBe(0);
    await expectPublished();
    expect(await readdir(dir)).toEqual([]);
    const results = JSON.parse(stdout) as Record<string, string>;
    const streamed = await manifest()?.bytes();
    const workspace = join(dir, 'workspace');
    const elsewhere = { ...env, WORKSPACE: workspace, MODEL_NAME: 'other' };
    expect((await runInProcess(download, [], elsewhere)).exitCode).toBe(0);
    const uploaded = await runInProcess(upload, [], elsewhere);
    expect(uploaded.results['manifest-sha256']).toBe(results['manifest-sha256']);
    expect((await manifest(prefix.replace('tiny', 'other'))?.bytes())?.equals(streamed as Buffer)).toBe(true);
  });

  test('does nothing when the commit is published, whoever published it', async () => {
    const first = await runInProcess(sync, [], env);
    const [served, writes] = [hub.cdn.requests.length, s3.seen(/^(PUT|POST|DELETE)/).length];
    const again = await runInProcess(sync, [], env);
    expect(again.results).toEqual({ ...first.results, 'uploaded-bytes': '0', unchanged: 'true' });
    expect(s3.seen(/^(PUT|POST|DELETE)/).length).toBe(writes);
    expect(hub.cdn.requests.length).toBe(served);
    const workspace = { ...env, WORKSPACE: dir };
    await runInProcess(download, [], workspace);
    expect((await runInProcess(upload, [], workspace)).results.unchanged).toBe('true');
  });

  test('moves only what changed from one commit to the next, files that git itself holds among them', async () => {
    await runInProcess(sync, [], env);
    const card = Buffer.from('A better card.');
    hub.repo('acme/tiny').commit({ files: new Map([['README.md', card]]), message: 'card' });
    const served = hub.servedBytes;
    const { results } = await runInProcess(sync, [], env);
    expect(Number(results['copied-bytes'])).toBe(total - bytesOf(large.get('README.md') ?? Buffer.alloc(0)).length);
    expect(Number(results['uploaded-bytes'])).toBe(card.length);
    expect(hub.servedBytes - served).toBeLessThan(10_000);
    const workspace = { ...env, WORKSPACE: dir, MODEL_NAME: 'other' };
    await runInProcess(download, [], workspace);
    expect((await runInProcess(upload, [], workspace)).results['manifest-sha256']).toBe(results['manifest-sha256']);
  });

  test('sends what may not be copied, as a version whose objects are archived', async () => {
    await runInProcess(sync, [], env);
    const body = '<Error><Code>InvalidObjectState</Code><Message>The source is not in the active tier</Message></Error>';
    s3.fail({ on: ({ headers }) => headers['x-amz-copy-source'] !== undefined, times: 99, answer: { status: 403, body } });
    const { exitCode, results, stderr } = await runInProcess(sync, ['--model-version', 'next'], env);
    expect([exitCode, results['uploaded-bytes'], results['copied-bytes']], stderr).toEqual([0, String(total), '0']);
    expect(stderr).toContain('not copied, sent instead');
  });

  test('--copy-from takes equal files from other models of the bucket, at a prefix or below it', async () => {
    await runInProcess(sync, [], env);
    const served = hub.cdn.requests.length;
    const other = { ...env, MODEL_NAME: 'other' };
    // 1.0 is not 1.0.1.
    const nearly = `s3://models/${prefix.slice(0, -1)}/`;
    for (const [from, copied] of [
      [nearly, 0],
      [`s3://models/${prefix}/`, total],
      ['model-data/tiny', total],
    ] as const) {
      const { exitCode, results, stderr } = await runInProcess(
        sync,
        ['--copy-from', from, '--model-name', `of-${copied}-${from.length}`],
        other,
      );
      expect(exitCode, stderr).toBe(0);
      expect(Number(results['copied-bytes'])).toBe(copied);
      if (copied === 0) expect(stderr).toContain('nothing is published there');
      else expect(hub.cdn.requests.length).toBe(served + 8);
    }
    const wrong = await runInProcess(sync, ['--copy-from', 's3://elsewhere/x/ /'], other);
    expect(wrong.exitCode).toBe(2);
    expect(wrong.stderr).toMatch(/s3:\/\/elsewhere\/x\/ is not in s3:\/\/models.*names no prefix/);
  });

  test('knows the same bytes under another commit', async () => {
    const flags = ['--key-template', 'models/{name}'];
    await runInProcess(sync, flags, env);
    hub.repo('acme/tiny').commit({ files: new Map(), message: 'nothing new' });
    const { exitCode, results, stderr } = await runInProcess(sync, flags, env);
    expect(exitCode, stderr).toBe(0);
    expect(results.unchanged).toBe('true');
    hub.repo('acme/tiny').commit({ files: new Map([['README.md', Buffer.from('A better card.')]]), message: 'card' });
    expect((await runInProcess(sync, flags, env)).exitCode).toBe(7);
  });

  test.each([shard, 'config.json'])('never makes an object of wrong bytes: %s', async (path) => {
    const side = path === shard ? hub.cdn : hub.hub;
    side.fail({ on: new RegExp(`GET .*${path === shard ? '' : path}`), times: 100, flipByteAt: 3 });
    const { exitCode } = await runInProcess(sync, ['--retries', '1'], env);
    expect(exitCode).toBe(6);
    expect(manifest()).toBeUndefined();
    expect(names()).not.toContain(path);
    expect(s3.uploads('models')).toEqual([]);
  });

  test('goes on after kill -9 on the same machine at once, with the parts that are there', async () => {
    s3.fail({ on: /^PUT .*partNumber=4/, times: 2, stallAfter: -1 });
    const killed = new Program('sync', [], env);
    await until(() => s3.seen(/partNumber=4/).length === 2 && parts() === 6);
    await killed.kill('SIGKILL');
    expect(manifest()).toBeUndefined();
    const { exitCode, stderr } = await runInProcess(sync, [], env);
    expect(exitCode, stderr).toBe(0);
    expect(parts()).toBe(8);
    await expectPublished();
  });

  test('killed in the middle, it sends at most one part per connection twice', async () => {
    const sent = () => s3.seen(/^PUT .*partNumber/).reduce((sum, { bytesIn }) => sum + bytesIn, 0);
    // A limit, so that there is a middle.
    const killed = new Program('sync', ['--concurrency', '3', '--bandwidth-limit', '30MB'], env);
    await until(() => sent() > 17_000_000);
    await killed.kill('SIGKILL');
    const before = sent();
    expect(before).toBeLessThan(34_000_000);
    const { exitCode, stderr } = await runInProcess(sync, [], env);
    expect(exitCode, stderr).toBe(0);
    expect(sent() - 34_000_000).toBeLessThanOrEqual(3 * 5 * 1024 ** 2);
    await expectPublished();
  });

  test('ends with 143 on SIGTERM, and a rerun goes on', async () => {
    s3.fail({ on: /^PUT .*partNumber=4/, times: 2, stallAfter: -1 });
    const program = new Program('sync', [], env);
    await until(() => s3.seen(/partNumber=4/).length > 0);
    expect((await program.kill('SIGTERM')).exitCode).toBe(143);
    expect(manifest()).toBeUndefined();
    expect((await runInProcess(sync, ['--stall-timeout', '1s'], env)).exitCode).toBe(0);
    await expectPublished();
  });

  test.each<[string, 'hub' | 'cdn' | 's3', Fault]>([
    ['a Hub that is down', 'hub', { on: /GET .*tree/, times: 2, answer: { status: 503 } }],
    ['429 with Retry-After', 'hub', { on: /GET .*resolve/, times: 2, answer: tooManyRequests(0) }],
    ['a CDN body that is cut', 'cdn', { on: /GET/, times: 3, cutAfter: 1_000_000 }],
    ['a CDN connection that is reset', 'cdn', { on: /GET/, times: 3, cutAfter: -1 }],
    ['a CDN that stalls', 'cdn', { on: /GET/, times: 1, stallAfter: 1000 }],
    ['a short body', 'cdn', { on: /GET/, times: 1, shortAfter: 1000 }],
    ['an expired link', 'cdn', { on: /GET/, skip: 2, times: 2, answer: { status: 403 } }],
    [
      'a link that leads elsewhere by now',
      'cdn',
      { on: /GET/, skip: 2, times: 2, answer: { status: 307, headers: { location: '/gone' } } },
    ],
    ['SlowDown on parts', 's3', { on: /partNumber=2/, times: 3, answer: s3Answer('SlowDown', { headers: { 'retry-after': '0' } }) }],
    ['a part whose answer is lost', 's3', { on: /partNumber=1/, loseAnswer: true }],
    ['a completion whose answer is lost', 's3', { on: /^POST .*uploadId/, loseAnswer: true }],
    ['a connection to S3 that is reset', 's3', { on: /partNumber=3/, times: 2, cutAfter: -1 }],
  ])('gets over %s', async (_, side, fault) => {
    ({ hub: hub.hub, cdn: hub.cdn, s3 })[side].fail(fault);
    const { exitCode, stderr } = await runInProcess(sync, ['--stall-timeout', '1s'], env);
    expect(exitCode, stderr).toBe(0);
    await expectPublished();
  });

  test.each<[string, HubOptions]>([
    ['a CDN that knows no ranges', { ranges: false }],
    ['links that end in the middle of a file', { linkUses: 2 }],
  ])('gets over %s', async (_, options) => {
    await hub.close();
    hub = new FakeHub(options);
    await hub.listen();
    hub.addRepo({ id: 'acme/tiny', files });
    const { exitCode, stderr } = await runInProcess(sync, [], { ...env, HF_ENDPOINT: hub.origin });
    expect(exitCode, stderr).toBe(0);
    await expectPublished();
  });

  const size = 17_000_000;
  const range = { 'content-range': `bytes 5242880-10485759/${size}` };
  test.each<[string, 'hub' | 'cdn', Fault, number]>([
    [
      'a file that changes between two ranges',
      'cdn',
      { on: /GET/, skip: 2, answer: { status: 206, headers: { ...range, etag: '"new"' } } },
      6,
    ],
    [
      'a file that is longer than the listing says',
      'cdn',
      { on: /GET/, skip: 2, answer: { status: 206, headers: { 'content-range': `bytes 0-9/${size + 1}` } } },
      6,
    ],
    [
      'a range with more bytes than it says',
      'cdn',
      { on: secondRange, times: 9, answer: { status: 206, headers: range, body: 'x'.repeat(5242881) } },
      6,
    ],
    [
      'a range that is another one',
      'cdn',
      { on: secondRange, answer: { status: 206, headers: { 'content-range': `bytes 0-5242879/${size}` } } },
      6,
    ],
    [
      'redirects that do not end',
      'hub',
      { on: /resolve/, times: 999, answer: { status: 302, headers: { location: '/acme/tiny/resolve/main/x' } } },
      2,
    ],
    ['a redirect to no address', 'hub', { on: /resolve/, times: 999, answer: { status: 302, headers: { location: 'http://' } } }, 2],
  ])('ends at %s, and publishes nothing', async (_, side, fault, code) => {
    hub[side].fail(fault);
    const { exitCode, stderr } = await runInProcess(sync, ['--retries', '2'], env);
    expect(exitCode, stderr).toBe(code);
    expect(manifest()).toBeUndefined();
    expect(s3.uploads('models')).toEqual([]);
    expect(s3.keys('models', '.modelferry/claims/')).toEqual([]);
  });

  test.each([
    ['uploads', 'ListMultipartUploads', 'does not list unfinished uploads'],
    ['parts', 'ListParts', 'does not list the parts'],
  ])('goes on without a list of %s where the bucket denies it, and says so', async (_, denied, said) => {
    await s3.close();
    s3 = new FakeS3({ deny: (verb) => verb === denied });
    await s3.listen();
    s3.createBucket('models');
    s3.fail({ on: /partNumber=3/, times: 99, answer: s3Answer('InternalError') });
    const elsewhere = { ...env, S3_ENDPOINT: s3.origin };
    expect((await runInProcess(sync, ['--retries', '0'], elsewhere)).exitCode).toBe(5);
    s3.clearFaults();
    const { exitCode, stderr } = await runInProcess(sync, [], elsewhere);
    expect(exitCode, stderr).toBe(0);
    expect(stderr).toContain(said);
    await expectPublished();
  });

  test('says what is wrong, not that the bucket denies to end an upload', async () => {
    await s3.close();
    s3 = new FakeS3({ deny: (verb) => verb === 'AbortMultipartUpload' });
    await s3.listen();
    s3.createBucket('models');
    hub.cdn.fail({ on: /GET/, times: 100, flipByteAt: 3 });
    const { exitCode, stderr } = await runInProcess(sync, ['--retries', '1'], { ...env, S3_ENDPOINT: s3.origin });
    expect(exitCode).toBe(6);
    expect(stderr).toContain('upload not aborted');
  });

  test('begins a file again when the store denies an upload that is there, and leaves none behind', async () => {
    s3.fail({ on: /^PUT .*partNumber=2/, times: 1, answer: s3Answer('NoSuchUpload') });
    const { exitCode, stderr } = await runInProcess(sync, ['--model-id', 'acme/tiny'], env);
    expect(exitCode, stderr).toBe(0);
    expect(s3.uploads('models')).toEqual([]);
  });

  test('waits for a listing that comes late, and so does who finds it published', async () => {
    const late = new FakeS3({ listsLateMs: 1200 });
    await late.listen();
    try {
      late.createBucket('models');
      const there = { ...env, S3_ENDPOINT: late.origin };
      const [first, second] = [
        await runInProcess(sync, ['--model-id', 'acme/tiny'], there),
        await runInProcess(sync, ['--model-id', 'acme/tiny'], there),
      ];
      expect([first.exitCode, first.results.unchanged], first.stderr).toEqual([0, 'false']);
      expect([second.exitCode, second.results.unchanged], second.stderr).toEqual([0, 'true']);
    } finally {
      await late.close();
    }
  });

  test('tells what would move on a dry run', async () => {
    await runInProcess(sync, [], env);
    hub.repo('acme/tiny').commit({ files: new Map([['README.md', Buffer.from('A better card.')]]), message: 'card' });
    const writes = s3.seen(/^(PUT|POST|DELETE)/).length;
    const served = hub.cdn.requests.length;
    const { stdout, exitCode } = await runInProcess(sync, ['--dry-run'], env);
    expect(exitCode).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      model: 'acme/tiny',
      commit: hub.repo('acme/tiny').sha(),
      license: null,
      gated: false,
      copy: { files: files.size - 1 },
      send: { files: 1, bytes: 14 },
      keep: { files: 0 },
      parts: 1,
    });
    const other = { ...env, MODEL_NAME: 'new', KEY_TEMPLATE: 'else/{name}' };
    expect(JSON.parse((await runInProcess(sync, ['--dry-run'], other)).stdout)).toMatchObject({ parts: files.size + 6, pods: 3 });
    const people = await runInProcess(sync, ['--dry-run'], other, { terminal: true });
    expect(people.stdout).toMatch(/licence +not said\n.*to send .* 34\.\d MB\n[\s\S]*which up to 3 pods could share/);
    expect(hub.cdn.requests.length).toBe(served);
    expect(s3.seen(/^(PUT|POST|DELETE)/).length).toBe(writes);
  });
});
