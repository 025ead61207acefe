import { readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { compress } from '../tasks/compress/step.ts';
import { download } from '../tasks/download/step.ts';
import { fetch as fetchStep } from '../tasks/fetch/step.ts';
import { sync } from '../tasks/sync/step.ts';
import { upload } from '../tasks/upload/step.ts';
import { verify } from '../tasks/verify/step.ts';
import { type FakeCache, openCache } from './fakes/cache.ts';
import { bytesOf, sizeOf } from './fakes/content.ts';
import type { FakeHub } from './fakes/hub.ts';
import { tinyLlama } from './fakes/model.ts';
import { runInProcess } from './fakes/program.ts';
import type { FakeS3 } from './fakes/s3.ts';

const tiny = tinyLlama();
const tokenizer = bytesOf(tiny.get('tokenizer.json')!);

let cache: FakeCache;
let hub: FakeHub;
let s3: FakeS3;
let dir: string;
let env: Record<string, string>;
let uri: string;
beforeEach(async () => {
  cache = await openCache({ 'acme/tiny': tiny });
  ({ hub, s3, dir, env } = cache);
  const published = await runInProcess(sync, ['--model-id=acme/tiny', '--model-version=1'], env);
  expect(published.exitCode, published.stderr).toBe(0);
  uri = published.results['model-uri'] ?? '';
  for (const server of [hub.hub, hub.cdn, s3]) server.requests.length = 0;
});
afterEach(async () => await cache.close());

const run = (argv: readonly string[] = [], more: Record<string, string> = {}) => runInProcess(verify, argv, { ...env, ...more });
const modelGets = () => s3.seen(/^GET \/models\/model-data\//);

describe('a model in the store', () => {
  test('is right without a byte of it being read, and read whole with --deep', async () => {
    const cheap = await run(['--model-name=tiny']);
    expect(cheap.exitCode, cheap.stderr).toBe(0);
    expect(cheap.results).toMatchObject({ repaired: '0', 'file-count': String(tiny.size) });
    expect(modelGets()).toEqual([]);
    expect((await run([`--model-uri=${uri}`, '--deep'])).exitCode).toBe(0);
    const total = [...tiny.values()].reduce((sum, content) => sum + sizeOf(content), 0);
    expect(modelGets().reduce((sum, { bytesOut }) => sum + bytesOut, 0)).toBe(total);
  });

  test('tells all that is wrong at once, and is mended by those files alone', async () => {
    s3.put('models', 'model-data/tiny/1/tokenizer.json', Buffer.alloc(tokenizer.length, 'x'));
    s3.put('models', 'model-data/tiny/1/config.json', '{}');
    s3.buckets.get('models')?.remove('model-data/tiny/1/LICENSE');
    const { exitCode, stderr } = await run(['--model-name=tiny']);
    expect(exitCode).toBe(6);
    for (const part of ['tokenizer.json sha256 is', 'config.json has 2 bytes', 'LICENSE is missing']) expect(stderr).toContain(part);
    hub.hub.requests.length = 0;
    const mended = await run(['--model-name=tiny', '--repair']);
    expect(mended.exitCode, mended.stderr).toBe(0);
    expect(mended.results.repaired).toBe('3');
    const asked = hub.seen(/\/resolve\//).map(({ url }) => url.split('/').at(-1));
    expect([...new Set(asked)].sort()).toEqual(['LICENSE', 'config.json', 'tokenizer.json']);
    expect((await run(['--model-name=tiny', '--deep'])).exitCode).toBe(0);
    s3.put('models', 'model-data/tiny/1/stranger.bin', 'mine');
    const extra = await run(['--model-name=tiny']);
    expect(extra.exitCode).toBe(6);
    expect(extra.stderr).toContain('stranger.bin does not belong there');
  });

  test('is mended from what is on this machine, so that the Hub is not needed', async () => {
    const { results } = await runInProcess(fetchStep, ['--model-name=tiny'], env);
    s3.put('models', 'model-data/tiny/1/tokenizer.json', Buffer.alloc(tokenizer.length, 'x'));
    s3.buckets.get('models')?.remove('model-data/tiny/1/config.json');
    await truncate(join(results.path ?? '', 'config.json'), 5);
    hub.hub.requests.length = 0;
    const mended = await run(['--model-name=tiny', '--deep', '--repair']);
    expect(mended.exitCode, mended.stderr).toBe(0);
    const asked = hub.seen(/\/resolve\//).map(({ url }) => url.split('/').at(-1));
    expect([...new Set(asked)]).toEqual(['config.json']);
    expect((await run(['--model-name=tiny', '--deep'])).exitCode).toBe(0);
  });

  test('and compressed is mended from the folder that has it; without one nothing is changed', async () => {
    await runInProcess(download, ['--model-id=acme/tiny'], env);
    const { results } = await runInProcess(compress, ['--method=fp8-dynamic', '--remove-source'], env);
    const published = await runInProcess(upload, [], env);
    expect(published.exitCode, published.stderr).toBe(0);
    const at = `--model-uri=${published.results['model-uri']}`;
    const key = s3.keys('models', 'model-data/').find((each) => /-fp8-dynamic\/.*\.safetensors$/.test(each)) ?? '';
    const right = Buffer.from((await s3.object('models', key)?.bytes()) ?? []);
    s3.put('models', key, Buffer.alloc(right.length, 'x'));
    const before = s3.keys('models');
    const none = await run([at, '--repair', `--workspace=${join(dir, 'nowhere')}`]);
    expect(none.exitCode).toBe(3);
    expect(none.stderr).toMatch(/no model compressed by fp8-dynamic, and no folder here has model-0000\d-of/);
    expect(none.stderr).toMatch(/--workspace or --model-dir.*download acme\/tiny at [0-9a-f]{40}, then compress/);
    expect(s3.keys('models')).toEqual(before);
    hub.hub.requests.length = 0;
    const mended = await run([at, '--repair']);
    expect(mended.exitCode, mended.stderr).toBe(0);
    expect(mended.results).toMatchObject({ repaired: '1', 'manifest-sha256': results['manifest-sha256'] });
    expect(Buffer.from((await s3.object('models', key)?.bytes()) ?? []).equals(right)).toBe(true);
    expect(hub.hub.requests).toEqual([]);
  });

  test('that was copied there by another tool is read, once its ETags are not those on record', async () => {
    s3.put('models', 'model-data/tiny/1/tokenizer.json', tokenizer, { encryption: { algorithm: 'aws:kms' } });
    expect((await run(['--model-name=tiny'])).exitCode).toBe(0);
    expect(modelGets()).toHaveLength(1);
    expect((await run(['--model-name=none'])).exitCode).toBe(3);
  });
});

describe('a model here', () => {
  test('tells all that is wrong, and gets back that alone: from the store, and without one from the Hub', async () => {
    const modelDir = join(dir, 'model');
    await runInProcess(fetchStep, ['--model-name=tiny', `--model-dir=${modelDir}`], env);
    const damage = async () => {
      await truncate(join(modelDir, 'tokenizer.json'), 5);
      await rm(join(modelDir, 'config.json'));
      await symlink('/etc/passwd', join(modelDir, 'config.json'));
      await writeFile(join(modelDir, 'LICENSE'), Buffer.alloc(sizeOf(tiny.get('LICENSE')!), 'x'));
      // Without its stamps a change of the bytes alone shows in the bytes alone.
      await rm(join(modelDir, '.modelferry/stamps.json'));
      s3.requests.length = 0;
    };
    expect((await run([`--model-dir=${modelDir}`])).exitCode).toBe(0);
    await damage();
    const cheap = await run([`--model-dir=${modelDir}`]);
    expect(cheap.exitCode).toBe(6);
    for (const part of ['tokenizer.json has 5 bytes', 'config.json is no file']) expect(cheap.stderr).toContain(part);
    expect(cheap.stderr).not.toContain('LICENSE sha256');
    expect((await run([`--model-dir=${modelDir}`, '--deep'])).stderr).toContain('LICENSE sha256 is');
    const mended = await run([`--model-dir=${modelDir}`, '--deep', '--repair']);
    expect(mended.exitCode, mended.stderr).toBe(0);
    expect(mended.results.repaired).toBe('3');
    expect(modelGets()).toHaveLength(3);
    expect((await readFile(join(modelDir, 'tokenizer.json'))).equals(tokenizer)).toBe(true);
    expect((await run([`--model-dir=${modelDir}`, '--deep'])).exitCode).toBe(0);
    await damage();
    expect((await run([`--model-dir=${modelDir}`, '--deep', '--repair'], { S3_BUCKET: '' })).results.repaired).toBe('3');
    expect(s3.requests).toEqual([]);
    await writeFile(join(modelDir, 'consolidated.safetensors'), 'mine');
    const extra = await run([`--model-dir=${modelDir}`, '--repair']);
    expect(extra.exitCode).toBe(6);
    expect(extra.stderr).toContain('consolidated.safetensors does not belong there');
    expect(extra.stderr).toContain('--repair leaves it to you');
  });

  test('in the workspace loses what does not belong there', async () => {
    const { results } = await runInProcess(fetchStep, ['--model-name=tiny'], env);
    await writeFile(join(results.path ?? '', 'stranger.bin'), 'x');
    expect((await run([], { S3_BUCKET: '' })).exitCode).toBe(6);
    expect((await run(['--repair', `--manifest=${results.manifest}`])).results.repaired).toBe('1');
    expect((await run()).exitCode).toBe(0);
  });
});
