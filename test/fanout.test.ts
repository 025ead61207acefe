import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { finish } from '../tasks/finish/step.ts';
import { plan } from '../tasks/plan/step.ts';
import { sync } from '../tasks/sync/step.ts';
import { verify } from '../tasks/verify/step.ts';
import { bytesOf, sizeOf } from './fakes/content.ts';
import { FakeHub } from './fakes/hub.ts';
import { tinyLlama } from './fakes/model.ts';
import { Program, runInProcess, until } from './fakes/program.ts';
import { FakeS3 } from './fakes/s3.ts';

const [small, inParts] = [tinyLlama(), tinyLlama({ shardBytes: 17_000_000 })];
const large = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'] as const;

let hub: FakeHub;
let s3: FakeS3;
let dir: string;
let env: Record<string, string>;
let prefix: string;
let files: typeof small;
beforeEach(async () => {
  hub = new FakeHub();
  s3 = new FakeS3();
  await Promise.all([hub.listen(), s3.listen()]);
  s3.createBucket('models');
  model(small);
  dir = await mkdtemp(join(tmpdir(), 'fanout-'));
  env = {
    HF_ENDPOINT: hub.origin,
    S3_BUCKET: 'models',
    S3_ENDPOINT: s3.origin,
    AWS_ACCESS_KEY_ID: s3.credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: s3.credentials.secretAccessKey,
    PART_SIZE: '5MiB',
    STALL_TIMEOUT: '10s',
    WAIT_TIMEOUT: '1ms',
  };
});
afterEach(async () => {
  await Promise.all([hub.close(), s3.close()]);
  await rm(dir, { recursive: true });
});

/** What acme/tiny is: files of one put each, or two that go in four parts each. */
function model(content: typeof small): void {
  files = content;
  const repo = hub.addRepo({ id: 'acme/tiny', files });
  prefix = `model-data/tiny/${repo.sha('main').slice(0, 12)}`;
}
const sizeAt = (path: string) => sizeOf(files.get(path) ?? Buffer.alloc(0));
const manifestKey = (of = prefix) => `.modelferry/manifests/${of}.json`;
const manifest = (of = prefix) => s3.object('models', manifestKey(of));
const names = () => s3.keys('models', `${prefix}/`).map((key) => key.slice(prefix.length + 1));
const parts = () => s3.seen(/^PUT .*partNumber/).filter(({ status }) => status === 200).length;
const control = (kind: string) => s3.keys('models', `.modelferry/${kind}/`);
const commit = () => hub.repo('acme/tiny').sha('main');

interface Made {
  key: string;
  sha256: string;
  shards: string[];
}

async function made(flags: readonly string[] = []): Promise<Made> {
  const { exitCode, results, stderr } = await runInProcess(plan, ['--model-id', 'acme/tiny', ...flags], env);
  expect(exitCode, stderr).toBe(0);
  expect(Object.keys(results)).toEqual(['commit', 'plan', 'plan-sha256', 'shards']);
  return { key: results.plan ?? '', sha256: results['plan-sha256'] ?? '', shards: JSON.parse(results.shards ?? '') as string[] };
}
const planFlags = ({ key, sha256 }: Made) => ['--plan', key, '--plan-sha256', sha256];
const shardRun = (of: Made, shard: string, flags: readonly string[] = []) =>
  runInProcess(sync, [...planFlags(of), '--shard', shard, ...flags], env);
const finishRun = (of: Made, flags: readonly string[] = []) => runInProcess(finish, [...planFlags(of), ...flags], env);

async function allShards(of: Made): Promise<void> {
  for (const shard of of.shards) {
    const { exitCode, stderr } = await shardRun(of, shard);
    expect(exitCode, stderr).toBe(0);
  }
}

/** Which shard has that file. */
async function shardOf(of: Made, path: string): Promise<string> {
  const bytes = env.STORE_DIR ? await readFile(join(env.STORE_DIR, of.key)) : await s3.object('models', of.key)?.bytes();
  const record = JSON.parse(String(bytes)) as { shards: { path: string }[][] };
  const index = record.shards.findIndex((shard) => shard.some((file) => file.path === path));
  return `${index}/${record.shards.length}`;
}

async function expectPublished(): Promise<void> {
  expect(names()).toEqual([...files.keys()].sort());
  for (const [path, content] of files) {
    const object = s3.object('models', `${prefix}/${path}`);
    expect((await object?.bytes())?.equals(bytesOf(content)), path).toBe(true);
  }
  expect(manifest()).toBeDefined();
  expect(s3.uploads('models')).toEqual([]);
  expect([...control('claims'), ...control('plans')]).toEqual([]);
}

/** What sync publishes of the same model under another name: its manifest, source and stored records, and its results. */
async function syncedElsewhere() {
  const { results } = await runInProcess(sync, ['--model-id', 'acme/tiny', '--model-name', 'other'], env);
  const there = prefix.replace('tiny', 'other');
  const record = async (kind: string, of: string) => String(await s3.object('models', `.modelferry/${kind}/${of}.json`)?.bytes());
  return { results, of: (kind: string) => record(kind, there), own: (kind: string) => record(kind, prefix) };
}

describe('the fan-out', () => {
  test('four pods side by side publish the same as sync does, manifest byte for byte, and touch no disk', async () => {
    model(inParts);
    const planned = await new Program('plan', ['--model-id', 'acme/tiny', '--shards', '4'], env, dir).ended;
    expect(planned.exitCode, planned.stderr).toBe(0);
    const results = JSON.parse(planned.stdout) as Record<string, string>;
    expect(results).toMatchObject({ commit: commit(), plan: `.modelferry/plans/${prefix}/${commit()}.json` });
    const of = { key: results.plan ?? '', sha256: results['plan-sha256'] ?? '', shards: JSON.parse(results.shards ?? '') as string[] };
    expect(of.shards).toEqual(['0/4', '1/4', '2/4', '3/4']);
    const pods = of.shards.map((shard) => new Program('sync', [...planFlags(of), '--shard', shard], env, dir).ended);
    for (const { exitCode, stderr, stdout } of await Promise.all(pods)) {
      expect(exitCode, stderr).toBe(0);
      expect(JSON.parse(stdout)).toMatchObject({ manifest: '', 'model-ARTIFACT_URI': '', unchanged: 'false' });
    }
    expect(manifest()).toBeUndefined();
    const { exitCode, stdout, stderr } = await new Program('finish', planFlags(of), env, dir).ended;
    expect(exitCode, stderr).toBe(0);
    await expectPublished();
    expect(await readdir(dir)).toEqual([]);
    const other = await syncedElsewhere();
    for (const kind of ['manifests', 'stored', 'source']) expect(await other.own(kind), kind).toBe(await other.of(kind));
    const finished = JSON.parse(stdout) as Record<string, string>;
    const elsewhere = (text = '') => text.replace('tiny', 'other');
    expect(finished).toEqual({
      ...other.results,
      manifest: manifestKey(),
      'model-uri': `s3://models/${prefix}/`,
      'model-ARTIFACT_URI': `s3://models/${prefix}/`,
      'uploaded-bytes': finished['total-bytes'],
      'copied-bytes': '0',
    });
    expect(elsewhere(finished['model-uri'])).toBe(other.results['model-uri']);
  });

  test('never more shards than files, and none of them empty; all of them at once', async () => {
    const of = await made(['--shards', '64']);
    expect(of.shards.length).toBe(files.size);
    const record = JSON.parse(String(await s3.object('models', of.key)?.bytes())) as { shards: unknown[][] };
    for (const shard of record.shards) expect(shard.length).toBe(1);
    const tries = await Promise.all(of.shards.map((shard) => shardRun(of, shard)));
    expect(tries.map(({ exitCode }) => exitCode)).toEqual(of.shards.map(() => 0));
    expect((await finishRun(of)).exitCode).toBe(0);
    await expectPublished();
    expect((await runInProcess(plan, ['--model-id', 'acme/tiny', '--shards', '65'], env)).exitCode).toBe(2);
  });

  test('a folder is a store for many processes too', async () => {
    const { S3_BUCKET: _, S3_ENDPOINT: __, ...others } = env;
    env = { ...others, STORE_DIR: join(dir, 'store') };
    const of = await made();
    await allShards(of);
    const { exitCode, results, stderr } = await finishRun(of);
    expect(exitCode, stderr).toBe(0);
    expect(results['file-count']).toBe(String(files.size));
    expect(await readFile(join(dir, 'store', prefix, large[0]))).toEqual(bytesOf(files.get(large[0]) ?? Buffer.alloc(0)));
    expect(await readdir(join(dir, 'store/.modelferry'), { recursive: true })).toContain(join('manifests', `${prefix}.json`));
    expect((await finishRun(of)).results.unchanged).toBe('true');
  });

  test('shards copy inside the store what the plan says where to find, and what is given to them alone', async () => {
    const elsewhere = async (name: string) => {
      const { exitCode, results, stderr } = await runInProcess(sync, ['--model-id', 'acme/tiny', '--model-name', name], env);
      expect(exitCode, stderr).toBe(0);
      return results['model-uri'] ?? '';
    };
    const from = await elsewhere('base');
    const told = await runInProcess(plan, ['--model-id', 'acme/tiny', '--copy-from', from, '--dry-run'], env);
    expect(JSON.parse(told.stdout)).toMatchObject({ copy: { files: expect.any(Number) } });
    expect((JSON.parse(told.stdout) as { copy: { files: number } }).copy.files).toBeGreaterThanOrEqual(large.length);
    const of = await made(['--copy-from', from]);
    expect(await made(['--copy-from', from])).toEqual(of);
    await allShards(of);
    const { exitCode, results, stderr } = await finishRun(of);
    expect(exitCode, stderr).toBe(0);
    const weights = large.reduce((sum, path) => sum + sizeAt(path), 0);
    expect(Number(results['copied-bytes'])).toBeGreaterThanOrEqual(weights);
    expect(Number(results['copied-bytes']) + Number(results['uploaded-bytes'])).toBe(Number(results['total-bytes']));
    await expectPublished();

    const flags = ['--model-name', 'third'];
    const { results: planned } = await runInProcess(plan, ['--model-id', 'acme/tiny', '--shards', '1', ...flags], env);
    const alone = ['--plan', planned.plan ?? '', '--shard', '0/1', '--copy-from', from];
    expect(Number((await runInProcess(sync, alone, env)).results['copied-bytes'])).toBeGreaterThanOrEqual(weights);
    const refused = await runInProcess(plan, ['--model-id', 'acme/tiny', '--copy-from', 's3://elsewhere/x/'], env);
    expect([refused.exitCode, refused.stderr]).toEqual([2, expect.stringContaining('s3://elsewhere/x/')]);
  });

  test('a plan that is made again is the same one, and does not disturb its shards', async () => {
    const of = await made(['--run-id', 'run-1']);
    const claim = s3.object('models', `.modelferry/claims/${prefix}.json`);
    expect(await made(['--run-id', 'run-1'])).toEqual(of);
    expect(s3.object('models', `.modelferry/claims/${prefix}.json`)).toBe(claim);
  });

  test('an unchanged model: plan succeeds and writes nothing, shards do nothing, finish passes results on', async () => {
    const published = await runInProcess(sync, ['--model-id', 'acme/tiny'], env);
    const writes = () => s3.seen(/^(PUT|POST|DELETE)/).length;
    const before = writes();
    const of = await made(['--run-id', 'run-1']);
    expect(of.shards).toEqual(['0/1']);
    const shard = await shardRun(of, '0/1');
    expect(shard.results, shard.stderr).toMatchObject({ unchanged: 'true', 'uploaded-bytes': '0', commit: commit() });
    const finished = await finishRun(of);
    expect(finished.results).toEqual({ ...published.results, 'uploaded-bytes': '0', unchanged: 'true' });
    expect((await finishRun(of, ['--abandon'])).exitCode).toBe(0);
    expect(writes()).toBe(before);
  });

  test('a plan that was killed before it stood, and overtaken by a sync: its shards do nothing, finish clears up', async () => {
    const of = await made(['--shards', '3']);
    // As it is when plan dies between its record and its claim: any other run takes that claim.
    s3.buckets.get('models')?.remove(`.modelferry/claims/${prefix}.json`);
    expect((await runInProcess(sync, ['--model-id', 'acme/tiny'], env)).exitCode).toBe(0);
    const again = await made(['--shards', '3']);
    expect(again.shards).toEqual(['0/1']);
    for (const shard of ['0/1', '2/3']) {
      const { exitCode, results, stderr } = await shardRun(of, shard);
      expect([exitCode, results?.unchanged], stderr).toEqual([0, 'true']);
    }
    expect((await finishRun(again)).results.unchanged).toBe('true');
    await expectPublished();
  });

  test('another commit with the same bytes is unchanged too', async () => {
    const flags = ['--key-template', 'models/{name}'];
    const published = await runInProcess(sync, ['--model-id', 'acme/tiny', ...flags], env);
    hub.repo('acme/tiny').commit({ files: new Map(), message: 'nothing new' });
    const of = await made(flags);
    expect((await shardRun(of, of.shards[0] ?? '')).results.unchanged).toBe('true');
    expect((await finishRun(of)).results).toEqual({ ...published.results, 'uploaded-bytes': '0', unchanged: 'true' });
  });

  test('a killed shard is run again and goes on with its own parts; its siblings are left alone', async () => {
    model(inParts);
    const of = await made(['--shards', '2']);
    const [mine, other] = [await shardOf(of, large[0]), await shardOf(of, large[1])];
    expect(mine).not.toBe(other);
    const stall = s3.fail({ on: /^PUT .*partNumber=4/, times: 2, stallAfter: -1 });
    const killed = new Program('sync', [...planFlags(of), '--shard', mine], env);
    const sibling = new Program('sync', [...planFlags(of), '--shard', other], env);
    await until(() => s3.seen(/partNumber=4/).length === 2 && parts() === 6);
    stall();
    const uploads = s3.uploads('models').map(({ id }) => id);
    expect(uploads.length).toBe(2);
    await killed.kill('SIGKILL');
    const again = await shardRun(of, mine);
    expect(again.exitCode, again.stderr).toBe(0);
    expect(parts()).toBe(7);
    expect(s3.uploads('models').map(({ id }) => id)).toEqual([expect.stringMatching(uploads.join('|'))]);
    // SIGTERM: exit code 143, and the retry goes on as well.
    expect((await sibling.kill('SIGTERM')).exitCode).toBe(143);
    expect((await finishRun(of)).exitCode).toBe(5);
    expect((await shardRun(of, other)).exitCode).toBe(0);
    expect(parts()).toBe(8);
    const { exitCode, stderr } = await finishRun(of);
    expect(exitCode, stderr).toBe(0);
    await expectPublished();
  });

  test('a later try of a shard ends an earlier one that still runs', async () => {
    model(inParts);
    const of = await made(['--shards', '2']);
    const shard = await shardOf(of, large[0]);
    const stall = s3.fail({ on: /^PUT .*partNumber=4/, times: 1, stallAfter: -1 });
    const first = new Program('sync', [...planFlags(of), '--shard', shard, '--stall-timeout', '2s'], env);
    await until(() => s3.seen(/partNumber=4/).length === 1);
    stall();
    expect((await shardRun(of, shard)).exitCode).toBe(0);
    const { exitCode, stderr } = await first.ended;
    expect([exitCode, stderr]).toEqual([5, expect.stringContaining('another run took over')]);
    await shardRun(of, await shardOf(of, large[1]));
    expect((await finishRun(of)).exitCode).toBe(0);
    await expectPublished();
  });

  test.each(['a folder', 'S3', 'S3 with a key, where equal bytes have another ETag'])(
    'a try that is held for dead and puts its file once more, behind its retry: finish ends well; in %s',
    async (where) => {
      const { S3_BUCKET: _, S3_ENDPOINT: __, ...others } = env;
      if (where === 'a folder') env = { ...others, STORE_DIR: join(dir, 'store') };
      else if (where !== 'S3') env = { ...env, S3_SSE: 'aws:kms' };
      const of = await made(['--shards', '2']);
      const shard = await shardOf(of, large[0]);
      const late = Promise.withResolvers<void>();
      hub.cdn.fail({ on: /./, hold: late.promise });
      const first = shardRun(of, shard);
      await until(() => hub.cdn.requests.length > 0);
      await allShards(of);
      late.resolve();
      const { exitCode, stderr } = await first;
      expect([exitCode, stderr]).toEqual([5, expect.stringContaining('another run took over')]);
      const finished = await finishRun(of);
      expect(finished.exitCode, finished.stderr).toBe(0);
      expect((await finishRun(of)).results).toMatchObject({ unchanged: 'true', 'file-count': String(files.size) });
      const checked = await runInProcess(verify, ['--model-uri', finished.results['model-uri'] ?? '', '--deep'], env);
      expect(checked.exitCode, checked.stderr).toBe(0);
      if (where !== 'a folder') await expectPublished();
    },
  );

  test('such a try that begins with another file in parts leaves no upload behind that nobody names', async () => {
    model(inParts);
    const of = await made(['--shards', '1']);
    const late = Promise.withResolvers<void>();
    hub.cdn.fail({ on: /./, hold: late.promise });
    const first = shardRun(of, '0/1', ['--concurrency', '1']);
    await until(() => hub.cdn.requests.length > 0 && s3.uploads('models').length === 1);
    expect((await shardRun(of, '0/1')).exitCode).toBe(0);
    late.resolve();
    const { exitCode, stderr } = await first;
    expect([exitCode, stderr]).toEqual([5, expect.stringContaining('another run took over')]);
    expect(s3.uploads('models')).toEqual([]);
    expect((await finishRun(of)).exitCode).toBe(0);
    await expectPublished();
  });

  test('finish without all reports: exit code 5, naming the shards', async () => {
    const of = await made();
    await shardRun(of, '0/4');
    await shardRun(of, '2/4');
    const { exitCode, stderr } = await finishRun(of);
    expect(exitCode).toBe(5);
    expect(stderr).toContain('1/4, 3/4');
    expect(manifest()).toBeUndefined();
    await shardRun(of, '1/4');
    await shardRun(of, '3/4');
    expect((await finishRun(of)).exitCode).toBe(0);
    await expectPublished();
  });

  test.each<[string, (key: string) => void]>([
    ['changed', (key) => void s3.put('models', key, Buffer.alloc(sizeAt(large[0])))],
    ['gone', (key) => void s3.buckets.get('models')?.remove(key)],
  ])('a file that is %s since its shard brought it: exit code 6, and the shard mends it', async (_, spoil) => {
    const of = await made();
    await allShards(of);
    spoil(`${prefix}/${large[0]}`);
    const { exitCode, stderr } = await finishRun(of);
    expect([exitCode, stderr]).toEqual([6, expect.stringContaining(large[0])]);
    expect(manifest()).toBeUndefined();
    const again = await shardRun(of, await shardOf(of, large[0]));
    expect(again.results['uploaded-bytes'], again.stderr).toBe(String(sizeAt(large[0])));
    expect((await finishRun(of)).exitCode).toBe(0);
    await expectPublished();
  });

  test('wrong bytes never become an object: exit code 6, and no upload stays', async () => {
    model(inParts);
    const of = await made();
    const stop = hub.cdn.fail({ on: /GET/, times: 100, flipByteAt: 3 });
    const { exitCode } = await shardRun(of, await shardOf(of, large[0]), ['--retries', '1']);
    expect(exitCode).toBe(6);
    expect(names()).not.toContain(large[0]);
    expect(s3.uploads('models')).toEqual([]);
    stop();
    await allShards(of);
    expect((await finishRun(of)).exitCode).toBe(0);
    await expectPublished();
  });

  test('other content: exit code 7 before a byte moves; with --replace it stands until the first write of a shard', async () => {
    const flags = ['--key-template', 'models/{name}'];
    prefix = 'models/tiny';
    await runInProcess(sync, ['--model-id', 'acme/tiny', ...flags], env);
    hub.repo('acme/tiny').commit({
      files: new Map([
        ['README.md', Buffer.from('A better card.')],
        ['new.txt', Buffer.from('new')],
      ]),
      message: 'card',
    });
    const [served, writes] = [hub.cdn.requests.length, s3.seen(/^(PUT|POST|DELETE)/).length];
    expect((await runInProcess(plan, ['--model-id', 'acme/tiny', ...flags], env)).exitCode).toBe(7);
    expect([hub.cdn.requests.length, s3.seen(/^(PUT|POST|DELETE)/).length]).toEqual([served, writes]);
    const of = await made([...flags, '--replace', '--shards', '64']);
    expect(manifest()).toBeDefined();
    // A shard that finds all of its files leaves the old model to its readers.
    const idle = await shardRun(of, await shardOf(of, large[0]));
    expect(idle.results['uploaded-bytes'], idle.stderr).toBe('0');
    expect(manifest()).toBeDefined();
    await shardRun(of, await shardOf(of, 'new.txt'));
    expect(manifest()).toBeUndefined();
    await allShards(of);
    const { exitCode, stderr } = await finishRun(of);
    expect(exitCode, stderr).toBe(0);
    expect(String(await s3.object('models', `${prefix}/README.md`)?.bytes())).toBe('A better card.');
    expect(JSON.parse(String(await manifest()?.bytes()))).toMatchObject({ source: { commit: commit() } });
    expect([...control('claims'), ...control('plans')]).toEqual([]);
  });

  test('foreign objects are refused by plan, and earlier files of ours are cleaned away by finish', async () => {
    s3.put('models', `${prefix}/theirs.txt`, 'x');
    expect((await runInProcess(plan, ['--model-id', 'acme/tiny'], env)).exitCode).toBe(7);
    expect(control('claims')).toEqual([]);
    s3.buckets.get('models')?.remove(`${prefix}/theirs.txt`);
    s3.put('models', `${prefix}/old.txt`, 'x', { metadata: { 'modelferry-sha256': 'a'.repeat(64) } });
    const of = await made();
    await allShards(of);
    expect((await finishRun(of)).exitCode).toBe(0);
    await expectPublished();
  });

  test('finish is run again after a kill at any point, and says unchanged once it is published', async () => {
    const of = await made();
    await allShards(of);
    const first = s3.fail({ on: new RegExp(`^PUT .*${manifestKey()}`), times: 1, stallAfter: -1 });
    const before = new Program('finish', planFlags(of), env);
    await until(() => s3.seen(new RegExp(`^PUT .*${manifestKey()}`)).length > 0);
    await before.kill('SIGKILL');
    first();
    expect(manifest()).toBeUndefined();
    const second = s3.fail({ on: /^DELETE .*plans.*source/, times: 1, stallAfter: -1 });
    const after = new Program('finish', planFlags(of), env);
    await until(() => s3.seen(/^DELETE .*plans.*source/).length > 0);
    await after.kill('SIGKILL');
    second();
    expect(manifest()).toBeDefined();
    expect(control('plans').length).toBeGreaterThan(0);
    const third = await finishRun(of);
    expect(third.results.unchanged, third.stderr).toBe('true');
    await expectPublished();
    expect((await finishRun(of)).results).toEqual(third.results);
    expect((await shardRun(of, '0/4')).results.unchanged).toBe('true');
  });

  test('of two plans for one target one wins, and the other one is told how to go on; then it finds the work done', async () => {
    const tries = await Promise.all(
      ['run-1', 'run-2'].map(async (runId) => await runInProcess(plan, ['--model-id', 'acme/tiny', '--run-id', runId], env)),
    );
    expect(tries.map(({ exitCode }) => exitCode).sort()).toEqual([0, 5]);
    const [won, lost] = [tries.find(({ exitCode }) => exitCode === 0), tries.find(({ exitCode }) => exitCode === 5)];
    const of = { key: won?.results.plan ?? '', sha256: won?.results['plan-sha256'] ?? '', shards: ['0/4', '1/4', '2/4', '3/4'] };
    expect(lost?.stderr).toMatch(/is publishing under/);
    // A sync of the same model is another competitor.
    const competitor = await runInProcess(sync, ['--model-id', 'acme/tiny'], env);
    expect([competitor.exitCode, competitor.stderr]).toEqual([5, expect.stringContaining(`finish --abandon --plan ${of.key}`)]);
    await allShards(of);
    expect((await finishRun(of)).exitCode).toBe(0);
    expect((await runInProcess(sync, ['--model-id', 'acme/tiny'], env)).results.unchanged).toBe('true');
  });

  test('a plan is held while its pods wait, given up after --hold, and its uploads then serve whoever takes over', async () => {
    model(inParts);
    const of = await made(['--shards', '2', '--hold', '2h']);
    const stall = s3.fail({ on: /^PUT .*partNumber=4/, times: 1, stallAfter: -1 });
    const killed = new Program('sync', [...planFlags(of), '--shard', await shardOf(of, large[0])], env);
    await until(() => s3.seen(/partNumber=4/).length === 1 && parts() === 3);
    await killed.kill('SIGKILL');
    stall();
    const claim = s3.object('models', `.modelferry/claims/${prefix}.json`);
    const age = (hours: number) => {
      if (claim) claim.lastModified = new Date(Date.now() - hours * 3_600_000);
    };
    age(1.5);
    expect((await runInProcess(sync, ['--model-id', 'acme/tiny'], env)).exitCode).toBe(5);
    age(2.5);
    const taken = await runInProcess(sync, ['--model-id', 'acme/tiny'], env);
    expect(taken.exitCode, taken.stderr).toBe(0);
    expect(parts()).toBe(8);
    // The old plan's pods come late: all is there.
    expect((await shardRun(of, '0/2')).results.unchanged).toBe('true');
    expect((await finishRun(of)).results.unchanged).toBe('true');
    await expectPublished();
  });

  test('what a killed sync left is handed to the shards', async () => {
    model(inParts);
    const stall = s3.fail({ on: /^PUT .*partNumber=4/, times: 2, stallAfter: -1 });
    const killed = new Program('sync', ['--model-id', 'acme/tiny'], env);
    await until(() => s3.seen(/partNumber=4/).length === 2 && parts() === 6);
    await killed.kill('SIGKILL');
    stall();
    const of = await made(['--shards', '3']);
    await allShards(of);
    expect(parts()).toBe(8);
    expect((await finishRun(of)).exitCode).toBe(0);
    await expectPublished();
  });

  test('--abandon aborts uploads and drops the claim; the same plan can still go on, and another one may begin', async () => {
    model(inParts);
    const of = await made(['--shards', '2', '--run-id', 'run-1']);
    const stall = s3.fail({ on: /^PUT .*partNumber=4/, times: 1, stallAfter: -1 });
    const killed = new Program('sync', [...planFlags(of), '--shard', await shardOf(of, large[0])], env);
    await until(() => s3.seen(/partNumber=4/).length === 1 && parts() === 3);
    await killed.kill('SIGKILL');
    stall();
    const dry = async (which: typeof of) => JSON.parse((await finishRun(which, ['--abandon', '--dry-run'])).stdout) as object;
    const told = { plan: of.key, uri: `s3://models/${prefix}/` };
    expect(await dry({ ...of, sha256: 'f'.repeat(64) })).toEqual({ ...told, abandon: false, uploads: [] });
    expect(await dry(of)).toEqual({ ...told, abandon: true, uploads: [`${prefix}/${large[0]}`] });
    expect([s3.uploads('models').length, control('claims').length]).toEqual([1, 1]);
    // Another run's plan of that key is not touched.
    await finishRun({ ...of, sha256: 'f'.repeat(64) }, ['--abandon']);
    expect(s3.uploads('models').length).toBe(1);
    const { exitCode, stderr } = await finishRun(of, ['--abandon']);
    expect(exitCode, stderr).toBe(0);
    expect(s3.uploads('models')).toEqual([]);
    expect(control('claims')).toEqual([]);
    expect(await dry(of)).toEqual({ ...told, abandon: false, uploads: [] });
    await allShards(of);
    await finishRun(of, ['--abandon']);
    const next = await made(['--shards', '3', '--run-id', 'run-2']);
    await allShards(next);
    expect((await finishRun(next)).results['uploaded-bytes']).toBe('0');
    await expectPublished();
    expect((await finishRun(of, ['--abandon'])).exitCode).toBe(0);
    expect(manifest()).toBeDefined();
  });

  test('a listing that comes late is waited for', async () => {
    const of = await made(['--shards', '2']);
    await allShards(of);
    const bucket = s3.buckets.get('models');
    if (bucket) bucket.listsLateMs = 1500;
    const { exitCode, stderr } = await finishRun(of);
    expect(exitCode, stderr).toBe(0);
    if (bucket) bucket.listsLateMs = 0;
    await expectPublished();
  });

  test('a sidecar for Ray, and an uploaded file whose place is taken by none', async () => {
    const of = await made(['--ray-hash']);
    await allShards(of);
    expect((await finishRun(of)).exitCode).toBe(0);
    expect(String(await s3.object('models', `${prefix}/hash`)?.bytes())).toBe(commit());
  });

  test.each<[string, string[], string]>([
    ['a shard without a plan', ['--shard', '0/4'], '--shard needs --plan'],
    ['a plan without a shard', ['--plan', 'x'], '--plan needs --shard'],
    ['no shard', ['--plan', 'x', '--shard', '4'], 'no shard such as 0/4'],
    ['a shard past the end', ['--plan', 'x', '--shard', '4/4'], 'no shard such as 0/4'],
    ['neither model nor plan', [], '--model-id is missing'],
  ])('%s: exit code 2', async (_, flags, text) => {
    const of = await made();
    const argv = flags.map((word) => (word === 'x' ? of.key : word));
    const { exitCode, stderr } = await runInProcess(sync, argv, env);
    expect([exitCode, stderr]).toEqual([2, expect.stringContaining(text)]);
  });

  test('a plan that is not there: exit code 3; a key that is none: 2; a shard of another cut: 2; another model: 2', async () => {
    const of = await made();
    expect((await finishRun({ ...of, key: of.key.replace(/[0-9a-f]{40}/, 'f'.repeat(40)) })).exitCode).toBe(3);
    expect((await finishRun({ ...of, key: 'elsewhere/x.json' })).exitCode).toBe(2);
    expect((await shardRun(of, '0/8')).exitCode).toBe(2);
    // Its report would lie under another name.
    expect((await shardRun(of, '00/4')).exitCode).toBe(2);
    expect((await shardRun(of, '0/4', ['--model-id', 'acme/other'])).exitCode).toBe(2);
    s3.put('models', of.key, '{"schemaVersion":1}');
    expect((await runInProcess(finish, ['--plan', of.key], env)).exitCode).toBe(6);
  });

  test('a dry run tells the shards and writes nothing', async () => {
    const writes = s3.seen(/^(PUT|POST|DELETE)/).length;
    const { exitCode, stdout } = await runInProcess(plan, ['--model-id', 'acme/tiny', '--shards', '2', '--dry-run'], env);
    expect(exitCode).toBe(0);
    const shown = JSON.parse(stdout) as { shards: { shard: string; bytes: number }[] };
    expect(shown.shards.map(({ shard }) => shard)).toEqual(['0/2', '1/2']);
    const total = [...files.keys()].reduce((sum, path) => sum + sizeAt(path), 0);
    expect(shown.shards.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(total);
    expect(s3.seen(/^(PUT|POST|DELETE)/).length).toBe(writes);
  });
});
