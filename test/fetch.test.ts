import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Manifest, makeManifest, manifestBytes } from '../lib/manifest.ts';
import { fetch as fetchStep } from '../tasks/fetch/step.ts';
import { sync } from '../tasks/sync/step.ts';
import { type FakeCache, openCache } from './fakes/cache.ts';
import { bytesOf, type Files, sizeOf } from './fakes/content.ts';
import { hfCli, hfEnv, skipHfCli } from './fakes/hf-cli.ts';
import type { FakeHub } from './fakes/hub.ts';
import { tinyLlama } from './fakes/model.ts';
import { type Ended, Program, runInProcess, until } from './fakes/program.ts';
import type { FakeS3 } from './fakes/s3.ts';
import { FakeServer } from './fakes/server.ts';

const tiny = tinyLlama();
const large = tinyLlama({ shardBytes: 12_000_000 });
const totalOf = (files: Files) => [...files.values()].reduce((sum, content) => sum + sizeOf(content), 0);

let cache: FakeCache;
let hub: FakeHub;
let s3: FakeS3;
let dir: string;
let env: Record<string, string>;
beforeEach(async () => {
  cache = await openCache({ 'acme/tiny': tiny, 'acme/large': large });
  ({ hub, s3, dir } = cache);
  env = { ...cache.env, MODEL_ID: 'acme/tiny', STALL_TIMEOUT: '5s' };
});
afterEach(async () => await cache.close());

const run = (argv: readonly string[] = [], more: Record<string, string> = {}) => runInProcess(fetchStep, argv, { ...env, ...more });
const modelDir = () => join(dir, 'model');
const publish = async (more: Record<string, string> = {}) => {
  const ended = await runInProcess(sync, [], { ...env, PART_SIZE: '5MiB', ...more });
  expect(ended.exitCode, ended.stderr).toBe(0);
  for (const server of [hub.hub, hub.cdn, s3]) server.requests.length = 0;
  return ended.results;
};
const modelGets = () => s3.seen(/^GET \/models\/model-data\//);
const s3Bytes = () => modelGets().reduce((sum, { bytesOut }) => sum + bytesOut, 0);
const asked = () => hub.requests.length + hub.cdn.requests.length + s3.requests.length;

async function tree(of: string): Promise<string[]> {
  const entries = await readdir(of, { withFileTypes: true, recursive: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(of.length + 1))
    .sort();
}

/** What a server sees: these files with these bytes, and besides them nothing but our own hidden folder. */
async function expectWhole(at: string, files: Files): Promise<void> {
  expect((await tree(at)).filter((path) => !path.startsWith('.modelferry/'))).toEqual([...files.keys()].sort());
  for (const [path, content] of files) expect((await readFile(join(at, path))).equals(bytesOf(content)), path).toBe(true);
}

describe('the order of sources', () => {
  test('the Hub first time, filled into the store; then the store without the Hub; then what is there, without asking anybody', async () => {
    const first = await run(['--fill']);
    expect(first.exitCode, first.stderr).toBe(0);
    const uri = `s3://models/model-data/tiny/${hub.repo('acme/tiny').sha().slice(0, 12)}/`;
    expect(first.results).toMatchObject({
      source: 'hub',
      filled: 'true',
      'model-uri': uri,
      bytes: String(totalOf(tiny)),
      'total-bytes': String(totalOf(tiny)),
      'file-count': String(tiny.size),
      commit: hub.repo('acme/tiny').sha(),
    });
    expect(first.results.seconds).toMatch(/^\d+\.\d{3}$/);
    await expectWhole(first.results.path ?? '', tiny);

    await hub.close();
    const second = await run([], { WORKSPACE: join(dir, 'other') });
    expect(second.exitCode, second.stderr).toBe(0);
    expect(second.results).toMatchObject({ source: 's3', filled: 'false', 'model-uri': uri, bytes: String(totalOf(tiny)) });
    expect(second.results['manifest-sha256']).toBe(first.results['manifest-sha256']);
    await expectWhole(second.results.path ?? '', tiny);

    await s3.close();
    const third = await run([], { WORKSPACE: join(dir, 'other') });
    expect(third.results).toMatchObject({ source: 'local', bytes: '0', path: second.results.path, 'model-uri': uri });
    expect(third.results['manifest-sha256']).toBe(first.results['manifest-sha256']);
  });

  test('by URI, by name and version, and by name alone: then it is the newest', async () => {
    const one = await publish();
    hub.repo('acme/tiny').commit({ files: tinyLlama({ seed: 2 }) });
    const two = await publish();
    const { MODEL_ID, ...rest } = env;
    env = rest;
    const version = one['model-uri']?.split('/').at(-2) ?? '';
    expect((await run(['--model-uri', one['model-uri'] ?? ''])).results.commit).toBe(one.commit);
    const { S3_BUCKET, ...noBucket } = env;
    const byUri = await runInProcess(fetchStep, ['--model-uri', (two['model-uri'] ?? '').replace(/\/$/, '')], noBucket);
    expect(byUri.results).toMatchObject({ source: 's3', commit: two.commit, 'model-uri': two['model-uri'] });
    expect((await run(['--model-name=tiny', `--model-version=${version}`])).results.commit).toBe(one.commit);
    expect((await run(['--model-name=tiny'])).results.commit).toBe(two.commit);
    expect(hub.requests).toEqual([]);
    const none = await run(['--model-name=tin']);
    expect(none.exitCode).toBe(3);
    expect(none.stderr).toContain('modelferry list');
  });

  test('a URI without a manifest is refused, and told what lies there: it may be half of a model', async () => {
    const uri = (await publish())['model-uri'] ?? '';
    for (const [path, content] of tiny) s3.put('models', `copied/tiny/${path}`, bytesOf(content));
    s3.put('models', 'begun/tiny/config.json', '{}');
    s3.put('models', '.modelferry/claims/begun/tiny.json', '{}');
    const { MODEL_ID, ...noModel } = env;
    const said = async (at: string) => {
      const { exitCode, stderr } = await runInProcess(fetchStep, [`--model-uri=${at}`], noModel);
      expect(exitCode, stderr).toBe(3);
      return stderr;
    };
    expect(await said('s3://models/copied/tiny/')).toMatch(
      /sync --model-id org\/name --key-template copied\/tiny --replace.*no manifest of ours says which/s,
    );
    expect(await said('s3://models/begun/tiny/')).toContain('not published yet');
    expect(await said('s3://models/model-data/tiny')).toContain(`a folder of models, such as ${uri}`);
    expect(await said(`${uri}weights/`)).toContain(`only a folder of a model, ${uri}`);
    expect(await said('s3://models/nowhere/')).toContain('nothing lies there');
    expect(await said('s3://models/.modelferry/archives/model-data/tiny/1-archive.tar.zst')).toContain('it is an archive');
    expect((await run(['--model-uri=s3://models/copied/tiny/'])).results.source).toBe('hub');
    const taken = await runInProcess(sync, ['--key-template=copied/tiny', '--replace'], env);
    expect(taken.exitCode, taken.stderr).toBe(0);
    const now = await runInProcess(fetchStep, ['--model-uri=s3://models/copied/tiny/', `--model-dir=${modelDir()}`], noModel);
    expect(now.results).toMatchObject({ source: 's3', bytes: String(totalOf(tiny)) });
  });

  test('a branch is the newest that was published from it, whatever its name in the store; a commit is that commit', async () => {
    const old = await publish({ MODEL_NAME: 'renamed' });
    hub.repo('acme/tiny').commit({ branch: 'next', files: tinyLlama({ seed: 2 }) });
    const next = await publish({ REVISION: 'next', MODEL_NAME: 'renamed' });
    await hub.close();
    expect((await run()).results).toMatchObject({ source: 's3', commit: old.commit });
    expect((await run(['--revision=next'])).results).toMatchObject({ source: 's3', commit: next.commit });
    expect((await run([`--revision=${old.commit}`], { WORKSPACE: join(dir, 'two') })).results).toMatchObject({
      source: 's3',
      commit: old.commit,
    });
    expect((await run(['--revision=v9', '--fallback=none'])).exitCode).toBe(3);
  });

  test('--refresh asks for the newest commit; without it what is there will do', async () => {
    const old = await publish();
    expect((await run()).results.commit).toBe(old.commit);
    hub.repo('acme/tiny').commit({ files: tinyLlama({ seed: 2 }) });
    expect((await run()).results).toMatchObject({ source: 'local', commit: old.commit });
    const fresh = await run(['--refresh', '--fill']);
    expect(fresh.results).toMatchObject({ source: 'hub', filled: 'true', commit: hub.repo('acme/tiny').sha() });
    expect((await run(['--refresh'], { WORKSPACE: join(dir, 'two') })).results).toMatchObject({
      source: 's3',
      commit: fresh.results.commit,
    });
    await hub.close();
    expect((await run(['--refresh'], { WORKSPACE: join(dir, 'three') })).results).toMatchObject({
      source: 's3',
      commit: fresh.results.commit,
    });
  });

  test('a compressed model is another one: only its version names it', async () => {
    const { commit, manifest: key = '' } = await publish();
    const plain = JSON.parse(String(await s3.object('models', key)?.bytes())) as Manifest;
    const prefix = `model-data/tiny/${commit?.slice(0, 12)}-w4a16`;
    for (const { path } of plain.files) s3.put('models', `${prefix}/${path}`, bytesOf(tiny.get(path)!));
    const derived = { method: 'w4a16', config: {}, fromManifestSha256: 'a'.repeat(64) };
    s3.put('models', `.modelferry/manifests/${prefix}.json`, manifestBytes(makeManifest({ ...plain, derived })));
    expect((await run()).results['model-uri']).toBe(`s3://models/model-data/tiny/${commit?.slice(0, 12)}/`);
    const compressed = await run([`--model-version=${commit?.slice(0, 12)}-w4a16`]);
    expect(compressed.results['model-uri']).toBe(`s3://models/${prefix}/`);
    expect(compressed.results.path).toContain(`${commit}-w4a16-`);
  });

  test('a folder store will do for a laptop', async () => {
    env = { ...env, S3_BUCKET: '', STORE_DIR: join(dir, 'store') };
    expect((await run(['--fill'])).results).toMatchObject({ source: 'hub', filled: 'true' });
    await hub.close();
    const again = await run([`--model-dir=${modelDir()}`]);
    expect(again.results).toMatchObject({ source: 's3', 'model-uri': expect.stringMatching(/^file:.*\/$/) });
    await expectWhole(modelDir(), tiny);
  });
});

describe('when a source fails', () => {
  test('the store is away: the Hub gives it, and a fill that fails does no harm', async () => {
    await s3.close();
    const { exitCode, results, stderr } = await run(['--fill', '--retries=0']);
    expect(exitCode, stderr).toBe(0);
    expect(results).toMatchObject({ source: 'hub', filled: 'false', 'model-uri': '' });
    expect(stderr).toContain('falling back to the Hub');
    expect((await run(['--fallback=none', '--retries=0'], { WORKSPACE: join(dir, 'two') })).exitCode).toBe(5);
  });

  test('a fill that failed is made up for by the next run', async () => {
    s3.fail({ on: /^PUT /, times: 1000, answer: { status: 403 } });
    expect((await run(['--fill'])).results).toMatchObject({ source: 'hub', filled: 'false' });
    s3.clearFaults();
    expect((await run(['--fill'])).results).toMatchObject({ source: 'local', filled: 'true' });
    s3.requests.length = 0;
    expect((await run(['--fill'])).results).toMatchObject({ source: 'local', filled: 'false' });
    expect(s3.requests).toEqual([]);
  });

  test('both are away: the error names both', async () => {
    await Promise.all([s3.close(), hub.close()]);
    const { exitCode, stderr } = await run(['--retries=0']);
    expect(exitCode).toBe(5);
    expect(stderr).toMatch(/failed to fetch acme\/tiny: store: .*; Hub: /);
  });

  test('the store dies on the way: the Hub goes on, with the commit that the store had, inside the same files', async () => {
    const published = await publish({ MODEL_ID: 'acme/large' });
    hub.repo('acme/large').commit({ files: tinyLlama({ seed: 9, shardBytes: 12_000_000 }) });
    s3.fail({ on: /^GET \/models\/model-data\/.*00002-of/, skip: 2, times: 1000, answer: { status: 503 } });
    const ended = await run(['--concurrency=1', '--part-size=4MiB', '--retries=0'], { MODEL_ID: 'acme/large' });
    expect(ended.exitCode, ended.stderr).toBe(0);
    expect(ended.results).toMatchObject({ source: 'hub', commit: published.commit, 'manifest-sha256': published['manifest-sha256'] });
    await expectWhole(ended.results.path ?? '', large);
    expect(hub.cdn.requests.reduce((sum, { bytesOut }) => sum + bytesOut, 0)).toBeLessThan(12_000_000);
  });

  test('wrong bytes in the store are never used: the Hub helps, or it is exit code 6 and nothing is there', async () => {
    await publish();
    const key = s3.keys('models', 'model-data/').find((each) => each.endsWith('tokenizer.json')) ?? '';
    const wrong = Buffer.from(bytesOf(tiny.get('tokenizer.json')!));
    wrong[5] = 0;
    s3.put('models', key, wrong);
    const refused = await run(['--fallback=none', `--model-dir=${modelDir()}`]);
    expect(refused.exitCode).toBe(6);
    expect(refused.stderr).toContain('tokenizer.json');
    expect((await tree(modelDir())).filter((path) => !path.startsWith('.modelferry/'))).toEqual([]);
    expect(existsSync(join(modelDir(), '.modelferry/manifest.json'))).toBe(false);
    const helped = await run([`--model-dir=${modelDir()}`]);
    expect(helped.results.source).toBe('hub');
    await expectWhole(modelDir(), tiny);
  });

  test('killed in the middle: nothing is seen of it, and the next run goes on inside the file', async () => {
    await publish({ MODEL_ID: 'acme/large' });
    const at = { ...env, MODEL_ID: 'acme/large', MODEL_DIR: modelDir(), PART_SIZE: '2MiB', CONCURRENCY: '1' };
    s3.fail({ on: /^GET .*00002-of.*safetensors/, skip: 3, stallAfter: 100 });
    const killed = new Program('fetch', [], at);
    await until(() => s3.seen(/^GET .*00002-of/).length === 4);
    await killed.kill('SIGKILL');
    expect((await tree(modelDir())).filter((path) => !path.startsWith('.modelferry/'))).toEqual([]);
    const before = s3Bytes();
    const { exitCode, stdout, stderr } = await new Program('fetch', [], at).ended;
    expect(exitCode, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ source: 's3' });
    await expectWhole(modelDir(), large);
    expect(s3Bytes() - before).toBeLessThan(12_000_000);
  });
});

describe('many at once', () => {
  test('8 on one folder bring it once, and every one has it', async () => {
    await publish({ MODEL_ID: 'acme/large' });
    const at = { ...env, MODEL_ID: 'acme/large', MODEL_DIR: modelDir(), PART_SIZE: '4MiB' };
    const ended = await Promise.all(Array.from({ length: 8 }, () => new Program('fetch', [], at).ended));
    expect(ended.map(({ exitCode }) => exitCode)).toEqual(Array(8).fill(0));
    const sources = ended.map(({ stdout }) => (JSON.parse(stdout) as { source: string }).source);
    expect(sources.filter((source) => source === 's3')).toHaveLength(1);
    expect(sources.filter((source) => source === 'local')).toHaveLength(7);
    expect(s3Bytes()).toBe(totalOf(large));
    await expectWhole(modelDir(), large);
  });

  test('6 pods with folders of their own: one fills, and the published model is whole', async () => {
    // Processes of their own: a step closes the network of its process when it ends.
    const ended: Ended[] = await Promise.all(
      Array.from({ length: 6 }, (_, index) => new Program('fetch', ['--fill', `--model-dir=${join(dir, `pod-${index}`)}`], env).ended),
    );
    expect(ended.map(({ exitCode }) => exitCode)).toEqual(Array(6).fill(0));
    for (const index of ended.keys()) await expectWhole(join(dir, `pod-${index}`), tiny);
    expect(ended.filter(({ stdout }) => stdout.includes('"filled":"true"')).length).toBeGreaterThan(0);
    const [key = ''] = s3.keys('models', '.modelferry/manifests/');
    const prefix = key.slice('.modelferry/manifests/'.length, -'.json'.length);
    expect(s3.keys('models', `${prefix}/`)).toEqual([...tiny.keys()].sort().map((path) => `${prefix}/${path}`));
    expect(s3.keys('models', '.modelferry/claims/')).toEqual([]);
  });
});

describe('a folder that was named', () => {
  test('changes to another version by the files that differ alone', async () => {
    await publish();
    expect((await run([`--model-dir=${modelDir()}`])).results.source).toBe('s3');
    const next: Files = new Map(tinyLlama({ seed: 2 }));
    next.delete('generation_config.json');
    hub.repo('acme/tiny').commit({ files: next, remove: ['generation_config.json'] });
    const two = await publish();
    const changed = await run([`--model-dir=${modelDir()}`, `--model-uri=${two['model-uri']}`], { MODEL_ID: '' });
    expect(changed.exitCode, changed.stderr).toBe(0);
    await expectWhole(modelDir(), next);
    const shards = [...next.keys()].filter((path) => path.endsWith('.safetensors'));
    expect([...new Set(modelGets().map(({ url }) => url.split('?')[0]?.split('/').at(-1)))].sort()).toEqual(shards.sort());
  });

  test('is refused when other files lie there, and takes a volume with its lost+found', async () => {
    await mkdir(join(modelDir(), 'lost+found'), { recursive: true });
    await writeFile(join(modelDir(), 'notes.txt'), 'mine');
    const refused = await run([`--model-dir=${modelDir()}`]);
    expect(refused.exitCode).toBe(7);
    expect(refused.stderr).toContain('notes.txt');
    expect(await readdir(modelDir())).toEqual(['lost+found', 'notes.txt']);
    expect(asked()).toBe(0);
    await rm(join(modelDir(), 'notes.txt'));
    expect((await run([`--model-dir=${modelDir()}`])).exitCode).toBe(0);
  });

  test('whatever is missing, cut or changed there is seen, and it alone is brought again', async () => {
    await publish();
    await run([`--model-dir=${modelDir()}`]);
    const again = async (damage: (path: string) => Promise<unknown>, argv: string[] = []) => {
      s3.requests.length = 0;
      await damage(join(modelDir(), 'tokenizer.json'));
      const { results } = await run([`--model-dir=${modelDir()}`, ...argv]);
      await expectWhole(modelDir(), tiny);
      return [results.source, modelGets().length];
    };
    const { size, mtime } = await stat(join(modelDir(), 'tokenizer.json'));
    const rewrite = (path: string) => writeFile(path, Buffer.alloc(size, 'x'));
    expect(await again((path) => rm(path))).toEqual(['s3', 1]);
    expect(await again((path) => truncate(path, 3))).toEqual(['s3', 1]);
    expect(await again(rewrite)).toEqual(['s3', 1]);
    // A copy of the volume has other times and the same bytes.
    expect(await again((path) => utimes(path, mtime, new Date(0)))).toEqual(['local', 0]);
    const sameTime = async (path: string) => {
      const before = await stat(path);
      await rewrite(path);
      await utimes(path, before.atime, before.mtime);
    };
    expect(await again(sameTime, ['--verify'])).toEqual(['s3', 1]);
  });
});

describe('a part of a model', () => {
  test('is brought for a tokenizer alone, and is not taken for the whole', async () => {
    await publish();
    const tokenizer = await run(['--select=tokenizer']);
    const files = await tree(tokenizer.results.path ?? '');
    expect(files).toEqual(['config.json', 'generation_config.json', 'special_tokens_map.json', 'tokenizer.json', 'tokenizer_config.json']);
    expect(tokenizer.results['file-count']).toBe('5');
    const config = await run(['--select=config'], { S3_BUCKET: '' });
    expect(config.results.source).toBe('hub');
    expect(await tree(config.results.path ?? '')).toEqual([...tiny.keys()].filter((path) => !/safetensors/.test(path)).sort());
    await expectWhole((await run()).results.path ?? '', tiny);
  });
});

describe('metrics', () => {
  test('add up in a file whatever the number of runs at once, and are pushed for a run alone', async () => {
    const pushed: { url: string; body: string }[] = [];
    const gateway = new FakeServer(async (request, response) => {
      pushed.push({ url: `${request.method} ${request.url}`, body: (await request.toArray()).join('') });
      response.writeHead(200).end();
    });
    await gateway.listen();
    try {
      const file = join(dir, 'metrics', 'modelferry.prom');
      const at = [`--metrics-file=${file}`, '--fill'];
      expect((await run([...at, `--metrics-push-url=${gateway.origin}`])).results).toMatchObject({ source: 'hub', cache: 'miss' });
      const others = await Promise.all(
        Array.from({ length: 4 }, (_, index) => new Program('fetch', [...at, `--model-dir=${join(dir, `pod-${index}`)}`], env).ended),
      );
      expect(others.map(({ stdout }) => (JSON.parse(stdout) as { cache: string }).cache)).toEqual(Array(4).fill('hit'));
      await run(at);
      await run([...at, '--revision=none']);
      const text = await readFile(file, 'utf8');
      const value = (line: string) =>
        Number(
          text
            .split('\n')
            .find((each) => each.startsWith(`${line} `))
            ?.split(' ')[1],
        );
      expect(value('modelferry_fetch_lookups_total{model="acme/tiny",source="hub",outcome="hit"}')).toBe(1);
      expect(value('modelferry_fetch_lookups_total{model="acme/tiny",source="s3",outcome="hit"}')).toBe(4);
      expect(value('modelferry_fetch_lookups_total{model="acme/tiny",source="s3",outcome="miss"}')).toBe(2);
      expect(value('modelferry_fetch_lookups_total{model="acme/tiny",source="local",outcome="hit"}')).toBe(1);
      expect(value('modelferry_fetch_lookups_total{model="acme/tiny",source="local",outcome="miss"}')).toBe(6);
      expect(value('modelferry_fetch_bytes_total{model="acme/tiny",source="s3"}')).toBe(4 * totalOf(tiny));
      expect(value('modelferry_fetch_failures_total{model="acme/tiny"}')).toBe(1);
      expect(value('modelferry_fetch_seconds_total{model="acme/tiny",source="s3"}')).toBeGreaterThan(0);
      expect(text).toContain('# TYPE modelferry_fetch_bytes_total counter');
      expect(await readdir(join(dir, 'metrics'))).toEqual(['modelferry.prom']);
      expect(pushed).toHaveLength(1);
      expect(pushed[0]?.url).toMatch(/^PUT \/metrics\/job\/modelferry\/instance\/[^/]+$/);
      expect(pushed[0]?.body).toContain(`modelferry_fetch_bytes_total{model="acme/tiny",source="hub"} ${totalOf(tiny)}\n`);
      await gateway.close();
      const alone = await run([`--metrics-push-url=${gateway.origin}`, `--metrics-file=${file}/x.prom`]);
      expect(alone.exitCode).toBe(0);
      expect(alone.stderr).toMatch(/metrics not written[\s\S]*metrics not pushed/);
    } finally {
      await gateway.close();
    }
  });
});

describe('the policy', () => {
  test('holds for what comes from the Hub, and for what is published of it', async () => {
    hub.addRepo({
      id: 'acme/pickle',
      files: new Map([...tiny, ['pytorch_model.bin', Buffer.from('\x80\x02cposix\nsystem\n.', 'latin1')]]),
    });
    const refused = await run(['--model-id=acme/pickle', '--allow-unsafe=never', `--model-dir=${modelDir()}`]);
    expect(refused.exitCode).toBe(7);
    expect(refused.stderr).toContain('pytorch_model.bin');
    expect((await run(['--deny-licenses=apache-*'])).exitCode).toBe(7);
    expect(hub.cdn.requests).toEqual([]);
    expect(await readdir(dir)).toEqual(['model']);
    expect(await readdir(modelDir())).toEqual([]);
    const unfilled = await run(['--model-id=acme/pickle', '--fill']);
    expect(unfilled.results).toMatchObject({ source: 'hub', filled: 'false' });
    expect(unfilled.stderr).toContain('posix');
    expect(s3.keys('models', 'model-data/')).toEqual([]);
  });
});

test('what the Hub refuses leaves nothing behind', async () => {
  hub.addRepo({ id: 'acme/gated', files: new Map([...tiny].filter(([, content]) => sizeOf(content) > 0)), gated: 'auto' });
  for (const argv of [[], [`--model-dir=${modelDir()}`]]) {
    expect((await run(['--model-id=acme/gated', ...argv])).exitCode).toBe(4);
  }
  expect(await readdir(modelDir())).toEqual([]);
  expect((await readdir(env.WORKSPACE ?? '', { recursive: true })).filter((path) => path.includes('gated'))).toEqual([]);
});

describe('parameters', () => {
  test('that do not go together are told all at once, and nobody is asked', async () => {
    const { MODEL_ID, S3_BUCKET, ...rest } = env;
    const { exitCode, stderr } = await runInProcess(fetchStep, ['--fill', '--fallback=none', '--select=tokenizer'], rest);
    expect(exitCode).toBe(2);
    for (const part of ['--model-uri', '--s3-bucket', '--fallback none', '--select tokenizer']) expect(stderr).toContain(part);
    expect(asked()).toBe(0);
  });

  test('--dry-run says what would come from where, and brings nothing', async () => {
    await publish();
    const { stdout, exitCode } = await run(['--dry-run', `--model-dir=${modelDir()}`]);
    expect(exitCode).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ source: 's3', path: modelDir(), totalBytes: totalOf(tiny) });
    expect(existsSync(modelDir())).toBe(false);
    expect(modelGets()).toEqual([]);
  });
});

describe.skipIf(skipHfCli)('--link', () => {
  test('makes a cache that huggingface_hub finds the model in by its name, offline', { timeout: 400_000 }, async () => {
    await publish();
    const { results } = await run([`--link=${join(dir, 'hf')}`]);
    const python = join(dirname(await hfCli()), 'python');
    const script = `
import json
from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download, try_to_load_from_cache
root = snapshot_download('acme/tiny')
pinned = snapshot_download('acme/tiny', revision='${results.commit}')
one = hf_hub_download('acme/tiny', 'tokenizer.json')
repo = next(iter(scan_cache_dir().repos))
print(json.dumps({'root': root, 'pinned': pinned, 'one': open(one).read(), 'cached': try_to_load_from_cache('acme/tiny', 'config.json'),
  'repo': repo.repo_id, 'refs': sorted(repo.refs), 'files': repo.nb_files, 'warnings': len(scan_cache_dir().warnings)}))
`;
    const offline = { ...hfEnv('http://127.0.0.1:9', dir), HF_HOME: join(dir, 'hf'), HF_HUB_OFFLINE: '1' };
    const { stdout } = await promisify(execFile)(python, ['-c', script], { env: offline });
    const snapshot = join(dir, 'hf/hub/models--acme--tiny/snapshots', results.commit ?? '');
    expect(JSON.parse(stdout)).toEqual({
      root: snapshot,
      pinned: snapshot,
      one: bytesOf(tiny.get('tokenizer.json')!).toString(),
      cached: join(snapshot, 'config.json'),
      repo: 'acme/tiny',
      refs: ['main'],
      files: tiny.size,
      warnings: 0,
    });
  });
});
