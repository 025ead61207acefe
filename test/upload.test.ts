import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, symlink, truncate, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { upload } from '../tasks/upload/step.ts';
import { Program, runInProcess, until } from './fakes/program.ts';
import { FakeS3, s3Answer } from './fakes/s3.ts';
import type { Fault } from './fakes/server.ts';
import { fillWorkspace } from './fakes/workspace.ts';

const internalError = '<?xml version="1.0"?><Error><Code>InternalError</Code><Message>try again</Message></Error>';
const mebibyte = 1024 ** 2;
const files = { 'config.json': Buffer.from('{}'), 'model.safetensors': randomBytes(17 * mebibyte) };
const prefix = `model-data/tiny/${'a'.repeat(12)}`;

let server: FakeS3;
let workspace: string;
let env: Record<string, string>;
beforeEach(async () => {
  server = new FakeS3();
  await server.listen();
  server.createBucket('models');
  workspace = await mkdtemp(join(tmpdir(), 'upload-'));
  const { accessKeyId, secretAccessKey } = server.credentials;
  env = {
    WORKSPACE: workspace,
    S3_BUCKET: 'models',
    S3_ENDPOINT: server.origin,
    AWS_ACCESS_KEY_ID: accessKeyId,
    AWS_SECRET_ACCESS_KEY: secretAccessKey,
    PART_SIZE: '5MiB',
  };
});
afterEach(async () => {
  await server.close();
  await rm(workspace, { recursive: true });
});

const published = () => server.object('models', `.modelferry/manifests/${prefix}.json`);
const keys = () => server.keys('models', `${prefix}/`).map((key) => key.slice(prefix.length + 1));
const partsSent = () => server.seen(/^PUT .*partNumber/).filter((request) => request.status === 200).length;

describe('upload', () => {
  test('gives the results of the design, and leaves the URI for pipelines that read files', async () => {
    const { manifest } = await fillWorkspace(workspace, files);
    const resultsDir = join(workspace, 'results');
    const { exitCode, results, stdout } = await runInProcess(upload, ['--results-dir', resultsDir], env);
    expect(exitCode).toBe(0);
    const sha256 = createHash('sha256')
      .update(`${JSON.stringify(manifest, null, 2)}\n`)
      .digest('hex');
    const uri = `s3://models/${prefix}/`;
    expect(results).toEqual({
      manifest: `acme--tiny/${'a'.repeat(40)}/manifest.json`,
      'manifest-sha256': sha256,
      commit: 'a'.repeat(40),
      'file-count': '2',
      'total-bytes': String(17 * mebibyte + 2),
      'model-uri': uri,
      'uploaded-bytes': String(17 * mebibyte + 2),
      'copied-bytes': '0',
      unchanged: 'false',
      'model-ARTIFACT_URI': uri,
      'model-ARTIFACT_DIGEST': `sha256:${sha256}`,
    });
    expect(JSON.parse(stdout)).toEqual(results);
    expect(await readFile(join(workspace, 'model_s3_uri'), 'utf8')).toBe(uri);
    expect((await readdir(resultsDir)).sort()).toEqual(Object.keys(results).sort());
    expect(await readFile(join(resultsDir, 'model-uri'), 'utf8')).toBe(uri);
    const again = await runInProcess(upload, [], env);
    expect(again.results).toEqual({ ...results, 'uploaded-bytes': '0', unchanged: 'true' });
  });

  test('goes on after kill -9 with the parts that are there', async () => {
    await fillWorkspace(workspace, files);
    server.fail({ on: /^PUT .*partNumber=3/, stallAfter: -1 });
    const killed = new Program('upload', ['--concurrency', '1'], env);
    await until(() => partsSent() === 2 && server.seen(/partNumber=3/).length === 1);
    await killed.kill('SIGKILL');
    expect(published()).toBeUndefined();
    const before = partsSent();
    const { exitCode } = await new Program('upload', [], env).ended;
    expect(exitCode).toBe(0);
    expect(partsSent() - before).toBe(2);
    expect(keys()).toEqual(['config.json', 'model.safetensors']);
    expect(server.uploads('models')).toEqual([]);
    expect(server.object('models', `.modelferry/claims/${prefix}.json`)).toBeUndefined();
  });

  test('ends with 143 on SIGTERM and says that a rerun goes on', async () => {
    await fillWorkspace(workspace, files);
    server.fail({ on: /^PUT .*partNumber=2/, stallAfter: -1 });
    const program = new Program('upload', [], env);
    await until(() => server.seen(/partNumber=2/).length === 1);
    const { exitCode, stderr, stdout } = await program.kill('SIGTERM');
    expect(exitCode).toBe(143);
    expect(stderr).toContain('a rerun goes on from here');
    expect(stdout).toBe('');
    expect(published()).toBeUndefined();
    expect((await runInProcess(upload, [], env)).exitCode).toBe(0);
  });

  test('refuses a manifest that is not what the pipeline says, or not its own schema', async () => {
    const { dir } = await fillWorkspace(workspace, files);
    expect((await runInProcess(upload, ['--manifest-sha256', '0'.repeat(64)], env)).exitCode).toBe(6);
    await writeFile(join(dir, 'manifest.json'), '{"schemaVersion":1}');
    const { exitCode, stderr } = await runInProcess(upload, [], env);
    expect(exitCode).toBe(6);
    expect(stderr).toContain('must have required property');
    expect(server.requests).toEqual([]);
  });

  test('sends no file that is missing, short or a link that leads out', async () => {
    const { filesDir } = await fillWorkspace(workspace, files);
    const target = join(filesDir, 'config.json');
    await truncate(target, 1);
    expect((await runInProcess(upload, [], env)).exitCode).toBe(6);
    await unlink(target);
    expect((await runInProcess(upload, [], env)).exitCode).toBe(3);
    const outside = join(workspace, 'outside.json');
    await writeFile(outside, '{}');
    await symlink(outside, target);
    const { exitCode, stderr } = await runInProcess(upload, [], env);
    expect(exitCode).toBe(7);
    expect(stderr).toContain('config.json');
    expect(published()).toBeUndefined();
  });

  test('tells every fault of its parameters at once and asks nobody', async () => {
    const { exitCode, stderr } = await runInProcess(upload, ['--concurrency', '0', '--no-such-flag', 'x', '--part-size', 'big'], env);
    expect(exitCode).toBe(2);
    for (const part of ['--concurrency', '--no-such-flag', '--part-size']) expect(stderr).toContain(part);
    expect(server.requests).toEqual([]);
  });

  test('needs a bucket, and says which of two stores it cannot choose', async () => {
    await fillWorkspace(workspace, files);
    const { S3_BUCKET, ...rest } = env;
    expect((await runInProcess(upload, [], rest)).stderr).toContain('--s3-bucket is missing');
    expect((await runInProcess(upload, ['--store-dir', join(workspace, 'store')], env)).exitCode).toBe(2);
  });

  test('a bucket that is not there, a wrong key, a server that is not there: each its own code', async () => {
    await fillWorkspace(workspace, files);
    const missing = await runInProcess(upload, ['--s3-bucket', 'nowhere', '--retries', '0'], env);
    expect([missing.exitCode, missing.stderr]).toEqual([3, expect.stringContaining('create the bucket first')]);
    const denied = await runInProcess(upload, ['--retries', '0'], { ...env, AWS_SECRET_ACCESS_KEY: 'not-the-secret' });
    expect(denied.exitCode).toBe(4);
    expect(denied.stderr).not.toContain('not-the-secret');
    await server.close();
    expect((await runInProcess(upload, ['--retries', '0'], env)).exitCode).toBe(5);
  });

  test.each<[string, Fault]>([
    ['SlowDown on a part', { on: /^PUT .*partNumber=2/, times: 2, answer: s3Answer('SlowDown', { headers: { 'retry-after': '0' } }) }],
    ['too many requests', { on: /^PUT .*config\.json/, times: 2, answer: { status: 429, headers: { 'retry-after': '0' } } }],
    // Those that waited for their next request end without a try.
    ['a connection reset', { on: /^PUT .*partNumber=1/, times: 8, cutAfter: -1 }],
    ['an answer that is cut', { on: /^GET .*list-type=2/, times: 2, cutAfter: 20 }],
    ['bytes that came wrong', { on: /^PUT .*partNumber=3/, answer: s3Answer('BadDigest') }],
    ['an internal error when a multipart is begun', { on: /^POST .*uploads/, times: 2, answer: s3Answer('InternalError') }],
    ['an internal error inside a 200 to the completion', { on: /^POST .*uploadId=/, answer: { status: 200, body: internalError } }],
    ['a gateway that is down', { on: /^HEAD|^GET/, times: 3, answer: { status: 502, body: '<html>Bad Gateway</html>' } }],
    ['a lost answer to a claim', { on: /^PUT .*claims/, loseAnswer: true }],
    ['lost answers to what renews a claim', { on: /^PUT .*claims/, skip: 1, times: 3, loseAnswer: true }],
    ['a lost answer to the end of a claim', { on: /^DELETE .*claims/, loseAnswer: true }],
    ['a lost answer to the manifest', { on: /^PUT .*manifests/, loseAnswer: true }],
  ])('gets over %s', async (_, fault) => {
    await fillWorkspace(workspace, files);
    server.fail(fault);
    const { exitCode, stderr } = await runInProcess(upload, ['--stall-timeout', '5s'], env);
    expect(exitCode, stderr).toBe(0);
    expect(stderr).toContain('trying again');
    expect(keys()).toEqual(Object.keys(files));
    expect(server.object('models', `${prefix}/model.safetensors`)?.size).toBe(17 * mebibyte);
    expect(server.uploads('models')).toEqual([]);
    expect(server.object('models', `.modelferry/claims/${prefix}.json`)).toBeUndefined();
  });

  test.each(['ignored', 'refused'] as const)('publishes where conditional writes are %s, and warns', async (conditionalWrites) => {
    await server.close();
    server = new FakeS3({ conditionalWrites });
    await server.listen();
    server.createBucket('models');
    await fillWorkspace(workspace, files);
    const there = { ...env, S3_ENDPOINT: server.origin };
    const { exitCode, stderr } = await runInProcess(upload, ['--retries', '1'], there);
    expect(exitCode, stderr).toBe(0);
    expect(stderr).toContain('let only one run at a time publish a model');
    expect(keys()).toEqual(Object.keys(files));
    expect(server.object('models', `.modelferry/claims/${prefix}.json`)).toBeUndefined();
    expect((await runInProcess(upload, [], there)).results.unchanged).toBe('true');
  });

  test('a bucket that does not let its uploads be listed is no hindrance', async () => {
    await server.close();
    server = new FakeS3({ deny: (verb) => verb === 'ListMultipartUploads' });
    await server.listen();
    server.createBucket('models');
    await fillWorkspace(workspace, files);
    server.fail({ on: /partNumber=3/, times: 9, answer: s3Answer('SlowDown', { headers: { 'retry-after': '0' } }) });
    expect((await runInProcess(upload, ['--retries', '1'], { ...env, S3_ENDPOINT: server.origin })).exitCode).toBe(5);
    server.clearFaults();
    const { exitCode, stderr } = await runInProcess(upload, [], { ...env, S3_ENDPOINT: server.origin });
    expect(exitCode).toBe(0);
    expect(stderr).toContain('does not list unfinished uploads');
    expect(server.seen(/partNumber=1/).length).toBe(1);
  });

  test('a store that is silent is given up after the stall timeout', async () => {
    await fillWorkspace(workspace, files);
    server.fail({ on: /partNumber=1/, stallAfter: -1, times: 5 });
    const { exitCode } = await runInProcess(upload, ['--stall-timeout', '300ms', '--retries', '0'], env);
    expect(exitCode).toBe(5);
  });

  test('asks for encryption, storage class and tags on model files, and for encryption alone on records', async () => {
    await fillWorkspace(workspace, files);
    const flags = [
      '--s3-sse',
      'aws:kms',
      '--s3-kms-key-id',
      'key-1',
      '--s3-storage-class',
      'STANDARD_IA',
      '--s3-tags',
      'team=ml,stage=prod',
    ];
    expect((await runInProcess(upload, flags, env)).exitCode).toBe(0);
    for (const name of Object.keys(files)) {
      const object = server.object('models', `${prefix}/${name}`);
      expect(object).toMatchObject({
        storageClass: 'STANDARD_IA',
        tags: { team: 'ml', stage: 'prod' },
        encryption: { algorithm: 'aws:kms' },
      });
    }
    expect(published()).toMatchObject({ storageClass: 'STANDARD', tags: {}, encryption: { algorithm: 'aws:kms' } });
  });

  test('reads its keys from the folder of a mounted secret', async () => {
    await fillWorkspace(workspace, files);
    const dir = await mkdtemp(join(tmpdir(), 'secret-'));
    const { AWS_ACCESS_KEY_ID = '', AWS_SECRET_ACCESS_KEY = '', ...rest } = env;
    await writeFile(join(dir, 'AWS_ACCESS_KEY_ID'), `${AWS_ACCESS_KEY_ID}\n`);
    await writeFile(join(dir, 'AWS_SECRET_ACCESS_KEY'), AWS_SECRET_ACCESS_KEY);
    const { exitCode } = await runInProcess(upload, ['--s3-credentials-dir', dir], rest);
    await rm(dir, { recursive: true });
    expect(exitCode).toBe(0);
  });

  test('says what it would do on a dry run, and does nothing', async () => {
    await fillWorkspace(workspace, files);
    const { exitCode, stdout } = await runInProcess(upload, ['--dry-run'], env);
    expect(exitCode).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      uri: `s3://models/${prefix}/`,
      unchanged: false,
      send: { files: 2, bytes: 17 * mebibyte + 2 },
      keep: { files: 0, bytes: 0 },
      license: 'apache-2.0',
      gated: null,
      parts: 5,
      pods: 2,
      files: expect.arrayContaining([{ path: 'config.json', size: 2, action: 'send' }]),
    });
    const people = await runInProcess(upload, ['--dry-run'], env, { terminal: true });
    expect(people.stdout).toBe(`s3://models/${prefix}/
  from      acme/tiny at ${'a'.repeat(40)}
  licence   apache-2.0
  to send   2 files, 17.8 MB
  to copy   0 files, 0 B
  to keep   0 files, 0 B
  in        5 parts, which up to 2 pods could share
`);
    expect(server.seen(/^(PUT|POST|DELETE)/)).toEqual([]);
  });

  test('publishes into a folder just the same', async () => {
    await fillWorkspace(workspace, files);
    const { S3_BUCKET, ...rest } = env;
    const store = join(workspace, 'store');
    const { results } = await runInProcess(upload, ['--store-dir', store], rest);
    expect(results['model-uri']).toBe(`file://${store}/${prefix}/`);
    expect((await readdir(join(store, prefix))).sort()).toEqual(Object.keys(files));
    expect((await runInProcess(upload, ['--store-dir', store], rest)).results.unchanged).toBe('true');
  });
});
