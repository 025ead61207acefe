import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { sha256Of } from '../lib/integrity.ts';
import type { Manifest } from '../lib/manifest.ts';
import { bytesOf, sizeOf } from './fakes/content.ts';
import { FakeHub } from './fakes/hub.ts';
import { tinyLlama } from './fakes/model.ts';
import { type Ended, Program } from './fakes/program.ts';
import { FakeRegistry } from './fakes/registry.ts';
import { FakeS3 } from './fakes/s3.ts';

const files = tinyLlama({ shardBytes: 6_000_000 });
const token = 'hf_granted';

let hub: FakeHub;
let s3: FakeS3;
let registry: FakeRegistry;
let dir: string;
let env: Record<string, string>;
beforeEach(async () => {
  hub = new FakeHub({ tokens: { [token]: { access: ['acme/gated'] } } });
  s3 = new FakeS3();
  registry = new FakeRegistry();
  await Promise.all([hub.listen(), s3.listen(), registry.listen()]);
  s3.createBucket('models');
  hub.addRepo({ id: 'acme/tiny-llama', files });
  hub.addRepo({ id: 'acme/gated', files, gated: 'manual' });
  dir = await mkdtemp(join(tmpdir(), 'pipeline-'));
  env = {
    WORKSPACE: join(dir, 'workspace'),
    HF_ENDPOINT: hub.origin,
    S3_BUCKET: 'models',
    S3_ENDPOINT_URL: s3.origin,
    AWS_ACCESS_KEY_ID: s3.credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: s3.credentials.secretAccessKey,
    MODEL_REGISTRY_URL: registry.origin,
    STALL_TIMEOUT: '10s',
  };
});
afterEach(async () => {
  await Promise.all([hub.close(), s3.close(), registry.close()]);
  await rm(dir, { recursive: true });
});

/** One step as an engine runs it: parameters by env, results as files. */
async function step(name: string, more: Record<string, string> = {}): Promise<Ended & { results: Record<string, string> }> {
  const resultsDir = await mkdtemp(join(dir, `${name}-results-`));
  const ended = await new Program(name, [], { ...env, RESULTS_DIR: resultsDir, ...more }).ended;
  const names = await readdir(resultsDir);
  const results = Object.fromEntries(await Promise.all(names.map(async (each) => [each, await readFile(join(resultsDir, each), 'utf8')])));
  return { ...ended, results };
}

async function pipeline(more: Record<string, string> = {}): Promise<Record<string, string>> {
  const register = (phase: string, given: Record<string, string>) =>
    step('register-in-model-registry', { PHASE: phase, ...more, ...given });
  const reserved = await register('reserve', {});
  expect(reserved.exitCode, reserved.stderr).toBe(0);
  const { commit = '', 'model-artifact-id': artifact = '' } = reserved.results;
  const manifestOf = (results: Record<string, string>) => ({
    MANIFEST: results.manifest ?? '',
    MANIFEST_SHA256: results['manifest-sha256'] ?? '',
  });
  const downloaded = await step('download', { ...more, PINNED_COMMIT: commit });
  expect(downloaded.exitCode, downloaded.stderr).toBe(0);
  const compressed = await step('compress', { ...more, ...manifestOf(downloaded.results) });
  expect(compressed.exitCode, compressed.stderr).toBe(0);
  if (more.METHOD === undefined) expect(compressed.results).toEqual(downloaded.results);
  const uploaded = await step('upload', { ...more, ...manifestOf(compressed.results) });
  expect(uploaded.exitCode, uploaded.stderr).toBe(0);
  const completed = await register('complete', {
    ...manifestOf(uploaded.results),
    REVISION: commit,
    MODEL_URI: uploaded.results['model-uri'] ?? '',
    MODEL_ARTIFACT_ID: artifact,
  });
  expect(completed.exitCode, completed.stderr).toBe(0);
  return { ...uploaded.results, ...completed.results };
}

describe('the programs in the order of the pipelines', () => {
  test('bring a model into the bucket and the registry, byte for byte', async () => {
    const results = await pipeline({ MODEL_ID: 'acme/tiny-llama' });
    const prefix = (results['model-uri'] ?? '').replace('s3://models/', '');
    for (const [path, content] of files) {
      expect((await s3Bytes(`${prefix}${path}`)).equals(bytesOf(content)), path).toBe(true);
    }
    expect(s3.keys('models', prefix).length).toBe(files.size);
    const manifest = await s3Bytes(`.modelferry/manifests/${prefix.slice(0, -1)}.json`);
    expect(sha256Of(manifest)).toBe(results['manifest-sha256']);
    expect(registry.records('artifact')).toMatchObject([{ id: results['model-artifact-id'], state: 'LIVE', uri: results['model-uri'] }]);
    expect(await readFile(join(env.WORKSPACE ?? '', 'model_s3_uri'), 'utf8')).toBe(results['model-uri']);
    expect(await readFile(join(env.WORKSPACE ?? '', 'model_version_id'), 'utf8')).toBe(results['model-version-id']);
  });

  test('change nothing when they run again', async () => {
    const first = await pipeline({ MODEL_ID: 'acme/tiny-llama' });
    const [served, writes] = [hub.servedBytes, s3.seen(/^(PUT|POST|DELETE)/).length];
    const again = await pipeline({ MODEL_ID: 'acme/tiny-llama' });
    expect(again).toEqual({ ...first, 'uploaded-bytes': '0', unchanged: 'true' });
    expect(s3.seen(/^(PUT|POST|DELETE)/).length).toBe(writes);
    expect(hub.servedBytes - served).toBeLessThan(100_000);
    expect(registry.records('version').length).toBe(1);
  });

  test('without a registry they publish and say that nothing is registered', async () => {
    const results = await pipeline({ MODEL_ID: 'acme/tiny-llama', MODEL_REGISTRY_URL: '' });
    expect(results).toMatchObject({ unchanged: 'false', 'registered-model-id': '', 'model-artifact-id': '' });
    expect(registry.requests).toEqual([]);
  });

  test('a gated model without a token ends with 4, and nothing is published', async () => {
    const reserved = await step('register-in-model-registry', { PHASE: 'reserve', MODEL_ID: 'acme/gated' });
    const downloaded = await step('download', { MODEL_ID: 'acme/gated' });
    expect([downloaded.exitCode, downloaded.stderr]).toEqual([4, expect.stringContaining('HF_TOKEN')]);
    expect(s3.keys('models')).toEqual([]);
    const { 'model-artifact-id': artifact = '' } = reserved.results;
    await step('register-in-model-registry', { PHASE: 'abandon', MODEL_ID: 'acme/gated', MODEL_ARTIFACT_ID: artifact });
    expect(registry.records('artifact').map(({ state }) => state)).toEqual(reserved.exitCode === 0 ? ['ABANDONED'] : []);
  });

  test('a token opens it, stands in no log, and goes to the Hub alone', async () => {
    const ends: Ended[] = [];
    for (const name of ['download', 'upload']) ends.push(await step(name, { MODEL_ID: 'acme/gated', HF_TOKEN: token, LOG_LEVEL: 'trace' }));
    expect(ends.map(({ exitCode }) => exitCode)).toEqual([0, 0]);
    for (const { stdout, stderr } of ends) expect(stdout + stderr).not.toContain(token);
    for (const { headers } of [...hub.cdn.requests, ...s3.requests]) expect(JSON.stringify(headers)).not.toContain(token);
  });

  test('with a method they bring a smaller model, and the registry says what it is', async () => {
    const given = { MODEL_ID: 'acme/tiny-llama', METHOD: 'fp8-dynamic' };
    const results = await pipeline(given);
    const commit = results.commit ?? '';
    const prefix = `model-data/tiny-llama/${commit.slice(0, 12)}-fp8-dynamic`;
    expect(results['model-uri']).toBe(`s3://models/${prefix}/`);
    const manifest = JSON.parse((await s3Bytes(`.modelferry/manifests/${prefix}.json`)).toString()) as Manifest;
    expect(manifest.derived).toMatchObject({ method: 'fp8-dynamic' });
    for (const { path, sha256 } of manifest.files) expect(sha256Of(await s3Bytes(`${prefix}/${path}`)), path).toBe(sha256);
    expect(s3.keys('models', `${prefix}/`).length).toBe(manifest.files.length);
    const [version] = registry.records('version');
    expect(version).toMatchObject({
      name: `${commit.slice(0, 12)}-fp8-dynamic`,
      customProperties: {
        'modelferry.method': { string_value: 'fp8-dynamic' },
        'modelferry.commit': { string_value: commit },
        'modelferry.total_bytes': { double_value: manifest.totalBytes },
        compressed: { bool_value: true },
      },
    });
    expect(registry.records('artifact')).toMatchObject([{ state: 'LIVE', uri: results['model-uri'] }]);
    const original = [...files.values()].reduce((sum, content) => sum + sizeOf(content), 0);
    expect(manifest.totalBytes).toBeLessThan(original);
    expect(await pipeline(given)).toEqual({ ...results, 'uploaded-bytes': '0', unchanged: 'true' });
    const imported = await step('import', { ...given, WORKSPACE: join(dir, 'other') });
    expect(imported.exitCode, imported.stderr).toBe(0);
    expect(imported.results).toMatchObject({ unchanged: 'true', 'manifest-sha256': results['manifest-sha256'] });
    expect(registry.records('version').length).toBe(1);
  });

  test('of a version with a name, as ModelCar gives it, are one version made by w4a16', async () => {
    const given = { MODEL_ID: 'acme/tiny-llama', MODEL_NAME: 'car', MODEL_VERSION: '1.0', COMPRESS_MODEL: 'true' };
    const ends: Awaited<ReturnType<typeof step>>[] = [];
    for (const name of ['download', 'compress', 'upload']) ends.push(await step(name, given));
    expect(ends.map(({ exitCode }) => exitCode)).toEqual([0, 0, 0]);
    const { COMPRESS_MODEL: _, ...rest } = given;
    const registered = await step('register-in-model-registry', {
      ...rest,
      REVISION: ends[0]?.results.commit ?? '',
      MODEL_URI: 's3://models/model-data/car/1.0/',
    });
    expect(registered.exitCode, registered.stderr).toBe(0);
    expect(registry.records('version')).toMatchObject([
      { name: '1.0', customProperties: { 'modelferry.method': { string_value: 'w4a16' } } },
    ]);
  });

  test('import does the same in one go', async () => {
    const piped = await pipeline({ MODEL_ID: 'acme/tiny-llama' });
    const imported = await step('import', {
      MODEL_ID: 'acme/tiny-llama',
      S3_BUCKET: 'other',
      WORKSPACE: join(dir, 'other'),
      MODEL_NAME: 'other',
    });
    expect(imported.exitCode).toBe(3);
    expect(existsSync(join(dir, 'other', 'acme--tiny-llama'))).toBe(false);
    s3.createBucket('other');
    const again = await step('import', {
      MODEL_ID: 'acme/tiny-llama',
      S3_BUCKET: 'other',
      WORKSPACE: join(dir, 'other'),
      MODEL_NAME: 'other',
    });
    expect(again.exitCode, again.stderr).toBe(0);
    expect(again.results['manifest-sha256']).toBe(piped['manifest-sha256']);
    expect(registry.records('artifact').map(({ state }) => state)).toEqual(['LIVE', 'LIVE']);
  });

  test('import finds other content in its place before a byte moves, and in a dry run', async () => {
    const two = hub.addRepo({ id: 'acme/two', files });
    two.commit({ branch: 'next', files: new Map([['README.md', Buffer.from('Better.')]]), message: 'Better card' });
    const given = { MODEL_ID: 'acme/two', MODEL_VERSION: '1.0', MODEL_REGISTRY_URL: '' };
    expect((await step('import', given)).exitCode).toBe(0);
    const same = await step('import', { ...given, DRY_RUN: 'true' });
    expect([same.exitCode, same.stderr]).toEqual([0, expect.stringContaining('"published":true')]);
    const more = { ...given, REVISION: 'next', WORKSPACE: join(dir, 'other') };
    for (const DRY_RUN of ['true', 'false']) {
      const { exitCode, stderr } = await step('import', { ...more, DRY_RUN });
      expect([exitCode, stderr]).toEqual([7, expect.stringContaining('--model-version')]);
    }
    expect(existsSync(join(dir, 'other', 'acme--two'))).toBe(false);
  });

  test('an imported model is found by the branch that it was asked for by, and by no other', async () => {
    const repo = hub.repo('acme/tiny-llama');
    const commit = repo.commit({ branch: 'next', files: new Map([['README.md', Buffer.from('next')]]) });
    const model = { MODEL_ID: 'acme/tiny-llama', ALLOW_PATTERNS: '*.md *.json' };
    const imported = await step('import', { ...model, REVISION: 'next' });
    expect([imported.exitCode, imported.results.commit], imported.stderr).toEqual([0, commit]);
    const fetched = (REVISION: string) => step('fetch', { ...model, REVISION, FALLBACK: 'none', WORKSPACE: join(dir, `of-${REVISION}`) });
    expect((await fetched('main')).exitCode).toBe(3);
    expect((await fetched('next')).results).toMatchObject({ commit, source: 's3' });
  });

  test('import needs no server but the Hub: it publishes into a folder', async () => {
    const { S3_BUCKET, S3_ENDPOINT_URL, MODEL_REGISTRY_URL, ...rest } = env;
    env = rest;
    const { exitCode, results, stderr } = await step('import', { MODEL_ID: 'acme/tiny-llama', STORE_DIR: join(dir, 'store') });
    expect(exitCode, stderr).toBe(0);
    const folder = (results['model-uri'] ?? '').replace('file://', '');
    expect((await readdir(folder)).sort()).toEqual([...files.keys()].sort());
    expect(
      JSON.parse(await readFile(join(dir, 'store/.modelferry/manifests', `${folder.split('/store/')[1]?.slice(0, -1)}.json`), 'utf8')),
    ).toMatchObject({
      source: { repo: 'acme/tiny-llama' },
    });
  });
});

async function s3Bytes(key: string): Promise<Buffer> {
  const object = s3.object('models', key);
  if (object === undefined) throw new Error(`${key} is missing`);
  return await object.bytes();
}
