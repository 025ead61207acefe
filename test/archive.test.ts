import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { sha256Of } from '../lib/integrity.ts';
import { type Manifest, makeManifest, manifestBytes, parseManifest } from '../lib/manifest.ts';
import { tarEnd, tarHeader } from '../lib/tar.ts';
import { compress } from '../tasks/compress/step.ts';
import { deleteModel } from '../tasks/delete/step.ts';
import { importModel } from '../tasks/import/step.ts';
import { list } from '../tasks/list/step.ts';
import { prune } from '../tasks/prune/step.ts';
import { register } from '../tasks/register-in-model-registry/step.ts';
import { serve } from '../tasks/serve/step.ts';
import { upload } from '../tasks/upload/step.ts';
import { storeEnv } from './fakes/cache.ts';
import { FakeHub } from './fakes/hub.ts';
import { tinyLlama } from './fakes/model.ts';
import { Program, runInProcess, until } from './fakes/program.ts';
import { FakeRegistry } from './fakes/registry.ts';
import { FakeS3 } from './fakes/s3.ts';
import { fillWorkspace } from './fakes/workspace.ts';

const mebibyte = 1024 ** 2;
const commit = 'a'.repeat(40);
const version = `${'a'.repeat(12)}-archive`;
const key = `.modelferry/archives/model-data/tiny/${version}.tar.zst`;
const files = {
  'config.json': Buffer.from('{}'),
  'empty.txt': Buffer.alloc(0),
  'model.safetensors': randomBytes(11 * mebibyte),
  [`deep/${'long-'.repeat(30)}name.txt`]: Buffer.from('its path needs a pax header'),
  'ümläut 🚀.txt': Buffer.from('and so does this one'),
};

let home: string;
let workspace: string;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'archive-'));
  workspace = join(home, 'workspace');
});
afterEach(async () => await rm(home, { recursive: true }));

interface Archived {
  path: string;
  manifest: Manifest;
  results: Record<string, string>;
}

async function archive(where = workspace, ...argv: string[]): Promise<Archived> {
  const { exitCode, stderr, results } = await runInProcess(compress, ['--method', 'archive', ...argv], { WORKSPACE: where });
  expect(exitCode, stderr).toBe(0);
  return await archiveIn(where, results);
}

async function archiveIn(where: string, results: Record<string, string>): Promise<Archived> {
  const path = join(where, results.manifest ?? '');
  const manifest = parseManifest(await readFile(path), path, results['manifest-sha256']);
  return { path: path.replace(/manifest\.json$/, 'files/model.tar.zst'), manifest, results };
}

/** Unpacks with the system's own tar; zstd is not everywhere. */
async function unpack(path: string, into: string): Promise<void> {
  await mkdir(into, { recursive: true });
  const tar = zstdDecompressSync(await readFile(path));
  execFileSync('tar', ['-xmf', '-', '-C', into], { input: tar });
}

describe('compress --method archive', () => {
  test('packs equal models into equal bytes, which any tar unpacks into a workspace', async () => {
    const { manifest: source, dir } = await fillWorkspace(workspace, files);
    const { path, manifest, results } = await archive();
    const bytes = await readFile(path);
    expect(results.manifest).toBe(`acme--tiny/${commit}-archive/manifest.json`);
    expect(manifest.files).toEqual([{ path: 'model.tar.zst', size: bytes.length, sha256: sha256Of(bytes) }]);
    expect(manifest.derived).toEqual({ method: 'archive', config: {}, fromManifestSha256: sha256Of(manifestBytes(source)) });
    expect(await readdir(join(workspace, `acme--tiny/${commit}-archive`))).not.toContain('partial');

    const other = join(home, 'other');
    await fillWorkspace(other, Object.fromEntries(Object.entries(files).reverse()));
    expect((await archive(other)).results).toEqual(results);

    const unpacked = join(home, 'unpacked');
    await unpack(path, unpacked);
    const model = join(unpacked, 'acme--tiny', commit);
    expect(await readFile(join(model, 'manifest.json'))).toEqual(await readFile(join(dir, 'manifest.json')));
    for (const [name, content] of Object.entries(files))
      expect(content.equals(await readFile(join(model, 'files', name))), name).toBe(true);
    expect((await readdir(model, { recursive: true })).length).toBe(Object.keys(files).length + 3);
    const back = await runInProcess(upload, ['--store-dir', join(home, 'store')], { WORKSPACE: unpacked });
    expect(back.results['model-uri']).toMatch(/\/store\/model-data\/tiny\/a{12}\/$/);
  });

  test('does nothing when it is there, and the model that it was made of may go', async () => {
    const { dir } = await fillWorkspace(workspace, files);
    const { path, results } = await archive(workspace, '--remove-source');
    const { mtimeMs } = await stat(path);
    expect((await archive()).results).toEqual(results);
    expect((await archive(workspace, '--manifest', `acme--tiny/${commit}/manifest.json`)).results).toEqual(results);
    expect((await stat(path)).mtimeMs).toBe(mtimeMs);
    expect(await readdir(dir)).not.toContain('files');
  });

  test('goes on behind the last file that is whole, and never packs wrong bytes', async () => {
    const large = { 'a.bin': Buffer.alloc(65 * mebibyte), 'b.bin': randomBytes(mebibyte), 'c.bin': randomBytes(mebibyte) };
    const { filesDir } = await fillWorkspace(workspace, large);
    await writeFile(join(filesDir, 'c.bin'), randomBytes(mebibyte));
    const failed = await new Program('compress', ['--method', 'archive'], { WORKSPACE: workspace }).ended;
    expect(failed.exitCode).toBe(6);
    expect(failed.stderr).toContain('files/c.bin: sha256');
    const folder = join(workspace, `acme--tiny/${commit}-archive`);
    expect(await readdir(folder)).not.toContain('files');

    await writeFile(join(filesDir, 'c.bin'), large['c.bin']);
    const again = await new Program('compress', ['--method', 'archive'], { WORKSPACE: workspace }).ended;
    expect(again.stderr).toContain('going on with the archive of an ended run');
    const { path, manifest } = await archiveIn(workspace, JSON.parse(again.stdout));
    expect(manifest.files[0]?.sha256).toBe(sha256Of(await readFile(path)));
    await rm(folder, { recursive: true });
    expect((await archive()).manifest).toEqual(manifest);
  });

  test('begins anew when what an ended run left has changed', async () => {
    const { filesDir } = await fillWorkspace(workspace, { 'a.bin': Buffer.alloc(65 * mebibyte), 'b.bin': Buffer.from('good') });
    await writeFile(join(filesDir, 'b.bin'), 'evil');
    const failed = await runInProcess(compress, ['--method', 'archive'], { WORKSPACE: workspace });
    expect(failed.exitCode).toBe(6);
    const partial = join(workspace, `acme--tiny/${commit}-archive/partial/model.tar.zst`);
    expect(existsSync(`${partial}.json`)).toBe(true);
    const bytes = await readFile(partial);
    bytes[100] = ~(bytes[100] ?? 0);
    await writeFile(partial, bytes);
    await writeFile(join(filesDir, 'b.bin'), 'good');
    const { path, manifest } = await archive();
    expect(manifest.files[0]?.sha256).toBe(sha256Of(await readFile(path)));
    await unpack(path, join(home, 'unpacked'));
  });

  test('names all options that mean nothing, and tells beforehand what it would do', async () => {
    await fillWorkspace(workspace, files);
    const argv = ['--method', 'archive', '--group-size', '64', '--ignore', 'lm_head'];
    const { exitCode, stderr } = await runInProcess(compress, argv, { WORKSPACE: workspace });
    expect(exitCode).toBe(2);
    expect(stderr).toContain('--group-size, --ignore');
    const { stdout } = await runInProcess(compress, ['--method', 'archive', '--dry-run'], { WORKSPACE: workspace });
    expect(JSON.parse(stdout)).toMatchObject({ method: 'archive', bytesAfter: null });
    expect(await readdir(join(workspace, 'acme--tiny'))).toEqual([commit]);
  });
});

test('a file of more than 8 GiB has its size in a pax header', () => {
  const size = 9 * 1024 ** 3;
  const listed = execFileSync('tar', ['-tvf', '-'], { input: Buffer.concat([tarHeader('big', 0), tarEnd()]) }).toString();
  expect(listed).toContain('big');
  const header = tarHeader('model.safetensors', size);
  expect(header.length).toBe(3 * 512);
  expect(header.subarray(512, 1024).toString('latin1').replace(/\0+$/, '')).toBe(`19 size=${size}\n`);
});

describe('an archive in the store', () => {
  let s3: FakeS3;
  let registry: FakeRegistry;
  let env: Record<string, string>;
  beforeEach(async () => {
    [s3, registry] = await Promise.all([new FakeS3().listen(), new FakeRegistry().listen()]);
    s3.createBucket('models');
    env = {
      WORKSPACE: workspace,
      ...storeEnv(s3),
      PART_SIZE: '5MiB',
      MODEL_REGISTRY_URL: registry.origin,
    };
    await fillWorkspace(workspace, files);
  });
  afterEach(() => Promise.all([s3.close(), registry.close()]));

  test('is one object where no server looks, its manifest and source beside it; a killed upload goes on', async () => {
    const { path, manifest, results } = await archive();
    s3.fail({ on: /^PUT .*partNumber=3/, stallAfter: -1 });
    const partsSent = () => s3.seen(/^PUT .*partNumber/).filter(({ status }) => status === 200).length;
    const killed = new Program('upload', ['--concurrency', '1'], env);
    await until(() => partsSent() === 2 && s3.seen(/partNumber=3/).length === 1);
    await killed.kill('SIGKILL');
    expect(s3.keys('models').filter((each) => each.includes('archives') && !each.includes('claims'))).toEqual([]);
    const uploaded = await new Program('upload', [], env).ended;
    expect(uploaded.exitCode, uploaded.stderr).toBe(0);
    expect(partsSent()).toBe(3);

    const digest = manifest.files[0]?.sha256 ?? '';
    const uri = `s3://models/${key}`;
    expect(JSON.parse(uploaded.stdout)).toMatchObject({
      'manifest-sha256': results['manifest-sha256'],
      'model-uri': uri,
      unchanged: 'false',
      'model-ARTIFACT_URI': uri,
      'model-ARTIFACT_DIGEST': `sha256:${digest}`,
    });
    expect(s3.keys('models').filter((each) => each !== '.modelferry/probe')).toEqual([key, `${key}.json`, `${key}.source.json`]);
    expect(s3.uploads('models')).toEqual([]);
    const object = s3.object('models', key);
    expect(object?.metadata['modelferry-sha256']).toBe(digest);
    expect(object?.size).toBe((await stat(path)).size);
    expect(await readFile(join(workspace, 'model_s3_uri'), 'utf8')).toBe(uri);

    const again = await runInProcess(upload, [], env);
    expect(again.results).toMatchObject({ unchanged: 'true', 'uploaded-bytes': '0', 'model-uri': uri });
    expect((await runInProcess(upload, ['--dry-run'], env)).stdout).toContain(uri);
  });

  test('is no model for steps that look after models; prune takes away what a killed upload left', async () => {
    await archive();
    const uri = String((await runInProcess(upload, [], env)).results['model-uri']);
    expect((await runInProcess(list, [], env)).stdout.trim()).toBe('[]');
    expect((await runInProcess(deleteModel, ['--model-uri', uri, '--yes'], env)).exitCode).toBe(3);
    s3.fail({ on: /^PUT .*partNumber=2/, stallAfter: -1 });
    const killed = new Program('upload', ['--concurrency', '1', '--model-version', 'two'], env);
    await until(() => s3.seen(/two.*partNumber=2/).length === 1);
    await killed.kill('SIGKILL');
    expect(s3.uploads('models')).toHaveLength(1);
    for (const each of s3.keys('models')) Object.assign(s3.object('models', each) ?? {}, { lastModified: new Date(0) });
    const pruned = await runInProcess(prune, ['--leftovers'], env);
    expect(pruned.results['aborted-uploads'], pruned.stderr).toBe('1');
    expect(s3.uploads('models')).toEqual([]);
    expect(s3.object('models', key)).toBeDefined();
  });

  test('is the same whatever zstd packed it; another model there is a conflict; a damaged one is sent again', async () => {
    const { path, manifest } = await archive();
    const published = (await runInProcess(upload, [], env)).results;
    const replaceArchive = async (bytes: Buffer, more: Partial<Manifest> = {}) => {
      const file = { path: 'model.tar.zst', size: bytes.length, sha256: sha256Of(bytes) };
      await writeFile(path, bytes);
      await writeFile(join(path, '../../manifest.json'), manifestBytes(makeManifest({ ...manifest, ...more, files: [file] })));
    };
    await replaceArchive(zstdCompressSync(zstdDecompressSync(await readFile(path)), { params: { 100: 1 } }));
    const same = await runInProcess(upload, [], env);
    expect(same.results).toMatchObject({ 'manifest-sha256': published['manifest-sha256'], unchanged: 'true' });
    expect(same.results['model-ARTIFACT_DIGEST']).toBe(published['model-ARTIFACT_DIGEST']);

    s3.put('models', key, 'something else');
    const repaired = await runInProcess(upload, [], env);
    expect(repaired.results.unchanged).toBe('false');
    expect(s3.object('models', key)?.size).toBe((await stat(path)).size);

    const derived = { method: 'archive', config: {}, fromManifestSha256: '0'.repeat(64) };
    await replaceArchive(randomBytes(100), { derived });
    expect((await runInProcess(upload, [], env)).exitCode).toBe(7);
    expect((await runInProcess(upload, ['--replace'], env)).exitCode).toBe(0);
    expect(s3.object('models', key)?.size).toBe(100);
  });

  test('is registered at its own URI, from the reservation on, and no server takes it for a model', async () => {
    const hub = await new FakeHub().listen();
    try {
      const pinned = hub.addRepo({ id: 'acme/small', files: tinyLlama() }).sha('main');
      const argv = ['--method', 'archive', '--model-id', 'acme/small'];
      const more = { ...env, HUB_URL: hub.origin };
      const uri = `s3://models/.modelferry/archives/model-data/small/${pinned.slice(0, 12)}-archive.tar.zst`;
      expect((await runInProcess(register, [...argv, '--phase', 'reserve'], more)).exitCode).toBe(0);
      expect(registry.records('artifact')).toMatchObject([{ uri, state: 'PENDING' }]);
      const { exitCode, stderr, results } = await runInProcess(importModel, argv, more);
      expect(exitCode, stderr).toBe(0);
      expect(results['model-uri']).toBe(uri);
      for (const again of [[], ['--model-uri', uri]]) {
        expect((await runInProcess(register, again, env)).exitCode).toBe(0);
        const live = { uri, state: 'LIVE', externalId: `${uri}#${results['manifest-sha256']}` };
        expect(registry.records('artifact')).toMatchObject([
          { ...live, customProperties: { 'modelferry.method': { string_value: 'archive' } } },
        ]);
      }
      const served = await runInProcess(serve, ['--model-uri', uri], { S3_ENDPOINT: s3.origin });
      expect(served.exitCode).toBe(2);
      expect(served.stderr).toContain('it is an archive, which no server reads');
    } finally {
      await hub.close();
    }
  });
});
