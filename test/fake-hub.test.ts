import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { checkRepoAccess, downloadFile, fileDownloadInfo, listFiles, modelInfo, pathsInfo, whoAmI } from '@huggingface/hub';
import { build } from 'esbuild';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { bytesOf, type Files, gitBlobOid, readRange, sha256Of, sizeOf } from './fakes/content.ts';
import { hfCli, hfEnv, skipHfCli } from './fakes/hf-cli.ts';
import { FakeHub, tooManyRequests } from './fakes/hub.ts';
import { tinyLlama } from './fakes/model.ts';

const files = tinyLlama();
const shard = 'model-00001-of-00002.safetensors';
const tokens = { hf_granted: { name: 'ann', access: ['acme/gated-llama', 'acme/private-llama'] }, hf_stranger: { name: 'bob' } };
let hub: FakeHub;

beforeEach(async () => {
  hub = await new FakeHub({ tokens, pageSize: 4 }).listen();
  hub.addRepo({ id: 'acme/tiny-llama', files, movedFrom: ['acme/old-llama'] });
});
afterEach(() => hub.close());

const get = (path: string, headers: Record<string, string> = {}, method = 'GET') =>
  fetch(new URL(path, hub.origin), { method, headers, redirect: 'manual' });
const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
const buffer = async (response: Response | Blob) => Buffer.from(await response.arrayBuffer());

async function collect<T>(source: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const one of source) all.push(one);
  return all;
}

/** The signed CDN address that the Hub gives for the first shard. */
async function signedAddress(id = 'acme/tiny-llama', headers: Record<string, string> = {}): Promise<string> {
  const response = await get(`/${id}/resolve/main/${shard}`, headers);
  expect(response.status).toBe(302);
  return response.headers.get('location')!;
}

describe('the tiny Llama', () => {
  test.each([{}, { shardBytes: 5_000_000 }])('has every tensor of its config in the shard that the index names: %o', (options) => {
    const model = tinyLlama(options);
    const config = JSON.parse(bytesOf(model.get('config.json')!).toString());
    const index = JSON.parse(bytesOf(model.get('model.safetensors.index.json')!).toString());
    const found: Record<string, string> = {};
    let total = 0;
    for (const name of [shard, 'model-00002-of-00002.safetensors']) {
      const content = model.get(name)!;
      if (options.shardBytes) expect(sizeOf(content)).toBe(options.shardBytes);
      const bytes = bytesOf(content);
      const headerLength = Number(bytes.readBigUInt64LE());
      const { __metadata__, ...tensors } = JSON.parse(bytes.toString('utf8', 8, 8 + headerLength));
      let end = 0;
      for (const [tensor, { dtype, shape, data_offsets }] of Object.entries<{ dtype: string; shape: number[]; data_offsets: number[] }>(
        tensors,
      )) {
        found[tensor] = name;
        expect([dtype, ...data_offsets]).toEqual(['BF16', end, end + shape.reduce((a, b) => a * b, 2)]);
        end = data_offsets[1]!;
      }
      expect(bytes.length).toBe(8 + headerLength + end);
      total += end;
    }
    expect(index).toEqual({ metadata: { total_size: total }, weight_map: found });
    expect(Object.keys(found)).toHaveLength(3 + 9 * config.num_hidden_layers);
    expect(found['model.layers.1.self_attn.q_proj.weight']).toBeDefined();
  });

  test('is the same for the same seed and another one for another', () => {
    expect(sha256Of(tinyLlama().get(shard)!)).toBe(sha256Of(files.get(shard)!));
    expect(sha256Of(tinyLlama({ seed: 2 }).get(shard)!)).not.toBe(sha256Of(files.get(shard)!));
  });

  test('gives generated content by range, with parts that differ from each other', () => {
    const content = tinyLlama({ shardBytes: 20 * 2 ** 20 }).get(shard)!;
    const whole = bytesOf(content);
    const part = (start: number, end: number) => Buffer.concat([...readRange(content, start, end)]);
    for (const [start, end] of [
      [0, 100],
      [7, 3_000_001],
      [2 ** 20 - 1, 2 ** 20 + 1],
      [whole.length - 5, whole.length],
    ] as const) {
      expect(part(start, end).equals(whole.subarray(start, end))).toBe(true);
    }
    expect(sha256Of(content)).toBe(sha256(whole));
    expect(part(4 * 2 ** 20, 8 * 2 ** 20).equals(part(8 * 2 ** 20, 12 * 2 ** 20))).toBe(false);
  });
});

describe('asked by @huggingface/hub', () => {
  const repo = 'acme/tiny-llama';

  test('lists files over pages, with what git and LFS call them', async () => {
    const entries = await collect(listFiles({ repo, recursive: true, hubUrl: hub.origin }));
    expect(entries.map((entry) => entry.path)).toEqual([...files.keys()].sort());
    expect(hub.seen(/GET .*\/tree\/main/)).toHaveLength(3);
    const config = entries.find((entry) => entry.path === 'config.json');
    expect(config).toEqual({ type: 'file', path: 'config.json', size: 692, oid: gitBlobOid(files.get('config.json')!) });
    const content = files.get(shard)!;
    const lfs = { oid: sha256Of(content), size: sizeOf(content), pointerSize: 131 };
    expect(entries.find((entry) => entry.path === shard)).toMatchObject({ size: sizeOf(content), lfs });
  });

  test('lists folders and what is in one of them', async () => {
    const junk = hub.addRepo({ id: 'acme/junk', files: tinyLlama({ junk: true }), xet: true });
    const all = await collect(listFiles({ repo: junk.id, recursive: true, expand: true, hubUrl: hub.origin }));
    expect(
      all
        .filter((entry) => entry.type === 'file')
        .map((entry) => entry.path)
        .sort(),
    ).toEqual([...junk.files().keys()].sort());
    expect(all.filter((entry) => entry.type === 'directory').map((entry) => entry.path)).toContain('runs/2026-01-02');
    expect(all[0]?.lastCommit?.id).toBe(junk.sha());
    expect(all.find((entry) => entry.path === shard)?.xetHash).toMatch(/^[0-9a-f]{64}$/);
    const inside = await collect(listFiles({ repo: junk.id, path: 'original', hubUrl: hub.origin }));
    expect(inside.map((entry) => entry.path)).toEqual(['original/consolidated.00.pth', 'original/params.json', 'original/tokenizer.model']);
  });

  test('knows branches, tags and commits, and a branch moves', async () => {
    const fake = hub.repo(repo);
    const first = fake.sha();
    fake.tag('v1.0');
    const second = fake.commit({ files: new Map([['README.md', Buffer.from('no front matter')]]), remove: ['LICENSE'] });
    const third = fake.commit({ branch: 'next/one', files: new Map([['new.txt', Buffer.from('new')]]) });
    const sha = async (revision?: string) =>
      (await modelInfo({ name: repo, additionalFields: ['sha'], hubUrl: hub.origin, ...(revision && { revision }) })).sha;
    expect(await Promise.all([sha(), sha('main'), sha('v1.0'), sha(first), sha('next/one')])).toEqual([
      second,
      second,
      first,
      first,
      third,
    ]);
    await expect(sha('nowhere')).rejects.toMatchObject({ statusCode: 404 });
    await expect(sha(first.slice(0, 7))).rejects.toMatchObject({ statusCode: 404 });
    expect([...fake.files().keys()]).not.toContain('LICENSE');
  });

  test('describes the model from its card', async () => {
    const info = await modelInfo({
      name: repo,
      hubUrl: hub.origin,
      additionalFields: ['tags', 'cardData', 'library_name', 'author', 'filePaths'],
    });
    expect(info).toMatchObject({
      name: repo,
      private: false,
      gated: false,
      task: 'text-generation',
      author: 'acme',
      library_name: 'transformers',
    });
    expect(info.tags).toEqual(expect.arrayContaining(['license:apache-2.0', 'en', 'safetensors', 'llama']));
    expect(info.cardData).toMatchObject({ license: 'apache-2.0', language: ['en'] });
    expect(info.filePaths).toContain(shard);
  });

  test('gives plain and LFS files, byte for byte', async () => {
    for (const path of ['config.json', 'tokenizer.json', shard]) {
      const blob = await downloadFile({ repo, path, hubUrl: hub.origin });
      expect((await buffer(blob!)).equals(bytesOf(files.get(path)!))).toBe(true);
    }
    expect(await downloadFile({ repo, path: 'no-such-file', hubUrl: hub.origin })).toBeNull();
  });

  test('announces Xet files, and gives them without Xet too', async () => {
    hub.addRepo({ id: repo, files, xet: true });
    const info = await fileDownloadInfo({ repo, path: shard, hubUrl: hub.origin });
    expect(info).toMatchObject({ size: sizeOf(files.get(shard)!), etag: `"${sha256Of(files.get(shard)!)}"` });
    expect(info?.xet?.refreshUrl.pathname).toBe(`/api/models/${repo}/xet-read-token/${hub.repo(repo).sha()}`);
    const blob = await downloadFile({ repo, path: shard, hubUrl: hub.origin, xet: false });
    expect(sha256(await buffer(blob!))).toBe(sha256Of(files.get(shard)!));
  });

  test('says what paths are', async () => {
    const rows = await pathsInfo({ repo, paths: ['config.json', 'no-such-file', shard], expand: true, hubUrl: hub.origin });
    expect(rows.map((row) => row.path)).toEqual(['config.json', shard]);
    expect(rows[1]).toMatchObject({ lfs: { oid: sha256Of(files.get(shard)!) }, securityFileStatus: { status: 'safe' } });
  });

  test('knows tokens, and who may read what', async () => {
    hub.addRepo({ id: 'acme/gated-llama', files, gated: 'manual' });
    expect(await whoAmI({ accessToken: 'hf_granted', hubUrl: hub.origin })).toMatchObject({ name: 'ann', type: 'user' });
    await expect(whoAmI({ accessToken: 'hf_unknown', hubUrl: hub.origin })).rejects.toMatchObject({ statusCode: 401 });
    await checkRepoAccess({ repo: 'acme/gated-llama', accessToken: 'hf_stranger', hubUrl: hub.origin });
    const gated = { repo: 'acme/gated-llama', path: shard, hubUrl: hub.origin };
    await expect(downloadFile({ ...gated, accessToken: 'hf_stranger' })).rejects.toMatchObject({ statusCode: 403 });
    const blob = await downloadFile({ ...gated, accessToken: 'hf_granted' });
    expect(sha256(await buffer(blob!))).toBe(sha256Of(files.get(shard)!));
    expect(hub.seen(/resolve/).at(-1)?.headers.authorization).toBe('Bearer hf_granted');
    expect(hub.cdn.requests).not.toHaveLength(0);
    expect(hub.cdn.requests.filter((request) => request.headers.authorization)).toEqual([]);
  });
});

describe('over HTTP', () => {
  const resolve = '/acme/tiny-llama/resolve/main';

  test('redirects small files on its own origin and names their git id', async () => {
    const { sha, oid } = { sha: hub.repo('acme/tiny-llama').sha(), oid: `"${gitBlobOid(files.get('config.json')!)}"` };
    const first = await get(`${resolve}/config.json`, {}, 'HEAD');
    expect([first.status, first.headers.get('x-repo-commit'), first.headers.get('x-linked-etag')]).toEqual([307, sha, oid]);
    expect(first.headers.get('location')).toMatch(`/api/resolve-cache/models/acme/tiny-llama/${sha}/config.json?`);
    const second = await get(first.headers.get('location')!, {}, 'HEAD');
    expect([second.status, second.headers.get('etag'), second.headers.get('content-length')]).toEqual([200, oid, '692']);
    const unchanged = await get(first.headers.get('location')!, { 'if-none-match': oid });
    expect(unchanged.status).toBe(304);
  });

  test('compresses text for those who accept it, and then has no length', async () => {
    const path = `/api/resolve-cache/models/acme/tiny-llama/${hub.repo('acme/tiny-llama').sha()}/tokenizer.json`;
    const packed = await get(path, { 'accept-encoding': 'gzip' });
    expect([packed.headers.get('content-encoding'), packed.headers.get('content-length')]).toEqual(['gzip', null]);
    expect((await buffer(packed)).equals(bytesOf(files.get('tokenizer.json')!))).toBe(true);
    const plain = await get(path, { 'accept-encoding': 'identity' });
    expect(plain.headers.get('content-length')).toBe(String(sizeOf(files.get('tokenizer.json')!)));
  });

  test('sends to the CDN for large files, with what they are in the headers', async () => {
    const response = await get(`${resolve}/${shard}`, {}, 'HEAD');
    const content = files.get(shard)!;
    expect(Object.fromEntries(response.headers)).toMatchObject({
      'x-repo-commit': hub.repo('acme/tiny-llama').sha(),
      'x-linked-etag': `"${sha256Of(content)}"`,
      'x-linked-size': String(sizeOf(content)),
      'accept-ranges': 'bytes',
    });
    expect(new URL(response.headers.get('location')!).origin).toBe(hub.cdn.origin);
    const pointer = await get(`/acme/tiny-llama/raw/main/${shard}`);
    expect(await pointer.text()).toContain(`oid sha256:${sha256Of(content)}\nsize ${sizeOf(content)}\n`);
  });

  test('serves ranges', async () => {
    const address = await signedAddress();
    const bytes = bytesOf(files.get(shard)!);
    const ranged = async (range: string, more: Record<string, string> = {}) => {
      const response = await get(address, { range, ...more });
      return [response.status, response.headers.get('content-range'), (await buffer(response)).toString('hex')] as const;
    };
    const { length } = bytes;
    expect(await ranged('bytes=100-199')).toEqual([206, `bytes 100-199/${length}`, bytes.toString('hex', 100, 200)]);
    expect(await ranged(`bytes=${length - 7}-`)).toEqual([
      206,
      `bytes ${length - 7}-${length - 1}/${length}`,
      bytes.toString('hex', length - 7),
    ]);
    expect(await ranged('bytes=-7')).toEqual([206, `bytes ${length - 7}-${length - 1}/${length}`, bytes.toString('hex', length - 7)]);
    expect(await ranged(`bytes=${length}-`)).toEqual([416, `bytes */${length}`, '']);
    expect((await ranged('bytes=0-9', { 'if-range': '"another"' }))[0]).toBe(200);
    const { headers } = await get(address, {}, 'HEAD');
    expect((await ranged('bytes=0-9', { 'if-range': headers.get('etag')! }))[0]).toBe(206);
    expect((await ranged('bytes=9-0'))[2]).toHaveLength(2 * length);
    expect(hub.servedBytes).toBe(hub.cdn.requests.reduce((sum, request) => sum + request.bytesOut, 0) + hub.requests[0]!.bytesOut);
    expect(hub.cdn.requests[0]).toMatchObject({ status: 206, bytesOut: 100 });
  });

  test('refuses a CDN request that carries a token, as a presigned address does', async () => {
    expect((await get(await signedAddress(), bearer('hf_granted'))).status).toBe(400);
    expect(hub.cdn.takeLeaks()).toEqual([expect.stringContaining('of the nobody brings hf_... (plain)')]);
  });

  test('lets CDN addresses end: by count, by time, by revoking, and gives new ones', async () => {
    const brief = await new FakeHub({ linkUses: 2 }).listen();
    brief.addRepo({ id: 'acme/tiny-llama', files });
    const address = async () => (await fetch(`${brief.origin}${resolve}/${shard}`, { redirect: 'manual' })).headers.get('location')!;
    const status = async (url: string) => (await fetch(url, { headers: { range: 'bytes=0-0' } })).status;
    try {
      const first = await address();
      expect([await status(first), await status(first), await status(first)]).toEqual([206, 206, 403]);
      const second = await address();
      expect(await status(second)).toBe(206);
      brief.revokeLinks();
      expect([await status(second), await status(await address())]).toEqual([403, 206]);
      expect(await status(`${brief.cdn.origin}/repos/x?Signature=made-up`)).toBe(403);
    } finally {
      await brief.close();
    }
    const expired = await new FakeHub({ linkSeconds: 0 }).listen();
    expired.addRepo({ id: 'acme/tiny-llama', files });
    expect((await fetch(`${expired.origin}${resolve}/${shard}`)).status).toBe(403);
    await expired.close();
  });

  test.each([
    ['a missing repository, anonymously', '/api/models/acme/none', undefined, 401, null],
    ['a missing repository, with a token', '/api/models/acme/none', 'hf_stranger', 404, 'RepoNotFound'],
    ['a file of one', '/acme/none/resolve/main/config.json', 'hf_stranger', 404, 'RepoNotFound'],
    ['a private repository, anonymously', '/api/models/acme/private-llama', undefined, 401, null],
    ['a private repository, with a token', '/acme/private-llama/resolve/main/config.json', 'hf_stranger', 404, 'RepoNotFound'],
    ['a private repository, with access', '/api/models/acme/private-llama', 'hf_granted', 200, null],
    ['a bad token, even for what is public', '/api/models/acme/tiny-llama', 'hf_unknown', 401, null],
    ['a missing revision', '/api/models/acme/tiny-llama/revision/none', undefined, 404, 'RevisionNotFound'],
    ['the tree of one', '/api/models/acme/tiny-llama/tree/none', undefined, 404, 'RevisionNotFound'],
    ['a file of one', '/acme/tiny-llama/resolve/none/config.json', undefined, 404, 'RevisionNotFound'],
    ['a missing file', '/acme/tiny-llama/resolve/main/none.json', undefined, 404, 'EntryNotFound'],
    ['a missing folder', '/api/models/acme/tiny-llama/tree/main/none', undefined, 404, 'EntryNotFound'],
    ['a gated model', '/api/models/acme/gated-llama/revision/main', undefined, 200, null],
    ['its listing', '/api/models/acme/gated-llama/tree/main', undefined, 200, null],
    ['its files, anonymously', '/acme/gated-llama/resolve/main/config.json', undefined, 401, 'GatedRepo'],
    ['its files, with a token', '/acme/gated-llama/resolve/main/config.json', 'hf_stranger', 403, 'GatedRepo'],
    ['its files, with access', '/acme/gated-llama/resolve/main/config.json', 'hf_granted', 307, null],
    ['who am I, anonymously', '/api/whoami-v2', undefined, 401, null],
    ['a field that expand does not know', '/api/models/acme/tiny-llama?expand[]=_id', undefined, 400, null],
    ['an earlier name', '/api/models/acme/old-llama/tree/main?recursive=true', undefined, 307, null],
    ['another case', '/Acme/Tiny-Llama/resolve/main/config.json', undefined, 307, null],
  ])('answers %s', async (_what, path, token, status, code) => {
    hub.addRepo({ id: 'acme/private-llama', files, private: true });
    hub.addRepo({ id: 'acme/gated-llama', files, gated: 'auto' });
    const response = await get(path, token ? bearer(token) : {});
    expect([response.status, response.headers.get('x-error-code')]).toEqual([status, code]);
    if (status === 401 || status === 403) expect(response.headers.get('x-error-message')).toBeTruthy();
  });

  test('gates listings too where it is told to', async () => {
    hub.addRepo({ id: 'acme/gated-llama', files, gated: 'auto', gateListing: true });
    const response = await get('/api/models/acme/gated-llama/tree/main');
    expect([response.status, response.headers.get('x-error-code')]).toEqual([401, 'GatedRepo']);
  });

  test('keeps the way and the query of a moved repository', async () => {
    const response = await get('/api/models/acme/old-llama/tree/main?recursive=true');
    expect(response.headers.get('location')).toBe('/api/models/acme/tiny-llama/tree/main?recursive=true');
  });

  test('lists branches and tags, and files with their blobs', async () => {
    const repo = hub.repo('acme/tiny-llama');
    repo.tag('v1.0');
    repo.commit({ branch: 'refs/pr/1', files: new Map([['a.txt', Buffer.from('a')]]) });
    expect(await (await get('/api/models/acme/tiny-llama/refs')).json()).toEqual({
      branches: [{ name: 'main', ref: 'refs/heads/main', targetCommit: repo.sha() }],
      tags: [{ name: 'v1.0', ref: 'refs/tags/v1.0', targetCommit: repo.sha() }],
      converts: [],
    });
    expect((await get('/acme/tiny-llama/resolve/refs%2Fpr%2F1/a.txt', {}, 'HEAD')).status).toBe(307);
    expect((await get('/api/models/acme/tiny-llama/tree/refs/pr/1')).status).toBe(200);
    const { siblings } = (await (await get('/api/models/acme/tiny-llama?blobs=true')).json()) as { siblings: object[] };
    const lfs = { sha256: sha256Of(files.get(shard)!), size: sizeOf(files.get(shard)!), pointerSize: 131 };
    expect(siblings).toContainEqual(expect.objectContaining({ rfilename: shard, size: lfs.size, lfs }));
  });

  test('goes wrong as it is told, on either side', async () => {
    hub.fail({ on: /GET \/api\/models/, answer: tooManyRequests(2) });
    const slow = await get('/api/models/acme/tiny-llama');
    expect([slow.status, slow.headers.get('ratelimit'), slow.headers.get('retry-after')]).toEqual([429, '"api";r=0;t=2', '2']);
    expect((await get('/api/models/acme/tiny-llama')).status).toBe(200);
    hub.cdn.fail({ on: /GET/, flipByteAt: 5 });
    const spoilt = await buffer(await get(await signedAddress()));
    const bytes = bytesOf(files.get(shard)!);
    expect([spoilt.length, spoilt[5], spoilt[6]]).toEqual([bytes.length, ~bytes[5]! & 0xff, bytes[6]]);
    hub.cdn.fail({ on: /GET/, cutAfter: 1000 });
    await expect(buffer(await get(await signedAddress()))).rejects.toThrow();
    expect(hub.cdn.requests.at(-1)?.bytesOut).toBe(1000);
  });
});

describe('with faults in its bodies', () => {
  const bytes = bytesOf(files.get(shard)!);

  test.each([
    ['before any answer', { cutAfter: -1 }, 0],
    ['behind the headers', { cutAfter: 0 }, 0],
    ['in the middle', { cutAfter: 1000 }, 1000],
  ])('cuts %s', async (_where, fault, sent) => {
    const address = await signedAddress();
    hub.cdn.fail({ on: /GET/, ...fault });
    await expect(get(address).then(buffer)).rejects.toThrow();
    expect(hub.cdn.requests[0]?.bytesOut).toBe(sent);
    expect((await buffer(await get(address))).equals(bytes)).toBe(true);
  });

  test('ends a body early and in order', async () => {
    hub.cdn.fail({ on: /GET/, shortAfter: 1000 });
    const response = await get(await signedAddress());
    expect([response.status, response.headers.get('content-length')]).toEqual([200, '1000']);
    expect((await buffer(response)).equals(bytes.subarray(0, 1000))).toBe(true);
  });

  test('stalls until the client gives up', async () => {
    hub.cdn.fail({ on: /GET/, stallAfter: 1000 });
    const give = new AbortController();
    const response = await fetch(await signedAddress(), { signal: give.signal });
    const reader = response.body!.getReader();
    let got = 0;
    while (got < 1000) got += (await reader.read()).value?.length ?? 0;
    const more = reader.read().then(
      () => 'more',
      () => 'given up',
    );
    expect([got, await Promise.race([more, get('/api/whoami-v2').then(() => 'still waiting')])]).toEqual([1000, 'still waiting']);
    give.abort();
    expect(await more).toBe('given up');
  });

  test('holds an answer back, skips some requests and hits a number of them', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    hub.fail({ on: /whoami/, hold: promise });
    const held = get('/api/whoami-v2').then(() => 'answered');
    expect(await Promise.race([held, get('/api/models/acme/tiny-llama').then(() => 'the other first')])).toBe('the other first');
    resolve();
    expect(await held).toBe('answered');
    const remove = hub.fail({ on: ({ url }) => url.startsWith('/api/models'), skip: 1, times: 2, answer: { status: 503 } });
    const status = async () => (await get('/api/models/acme/tiny-llama')).status;
    expect([await status(), await status(), await status(), await status()]).toEqual([200, 503, 503, 200]);
    remove();
  });
});

describe('as a program', () => {
  test('is one file that serves its models, goes wrong as env says and ends on SIGTERM', { timeout: 30_000 }, async () => {
    const folder = await mkdtemp(join(tmpdir(), 'modelferry-hub-'));
    const outfile = join(folder, 'hub.cjs');
    await build({ entryPoints: [join(import.meta.dirname, 'fakes/hub-main.ts')], bundle: true, platform: 'node', format: 'cjs', outfile });
    const faults = JSON.stringify([{ on: 'GET /api/models', status: 503 }]);
    const env = { HOST: '127.0.0.1', PORT: '0', CDN_PORT: '0', PUBLIC_CDN_URL: 'http://cdn.example', FAULTS: faults };
    const child = spawn(process.execPath, [outfile], { env, stdio: ['ignore', 'pipe', 'inherit'] });
    try {
      const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
      const next = async () => JSON.parse(String((await lines.next()).value));
      const { hub: origin } = await next();
      const info = `${origin}/api/models/acme/gated-llama`;
      expect([(await fetch(info)).status, (await fetch(info)).status]).toEqual([503, 200]);
      const file = `${origin}/acme/gated-llama/resolve/main/${shard}`;
      const refused = await fetch(file, { headers: bearer('hf_stranger') });
      const given = await fetch(file, { headers: bearer('hf_granted'), redirect: 'manual' });
      expect([refused.status, given.status, given.headers.get('location')]).toEqual([
        403,
        302,
        expect.stringMatching('^http://cdn.example/'),
      ]);
      const seen = [await next(), await next(), await next(), await next()];
      expect(seen.map((line) => [line.status, line.authorization])).toEqual([
        [503, false],
        [200, false],
        [403, true],
        [302, true],
      ]);
      expect(JSON.stringify(seen)).not.toContain('hf_granted');
      child.kill('SIGTERM');
      expect(await once(child, 'exit')).toEqual([0, null]);
    } finally {
      child.kill('SIGKILL');
      await rm(folder, { recursive: true, force: true });
    }
  });
});

describe.skipIf(skipHfCli)('asked by the real hf command line', () => {
  const run = promisify(execFile);
  let hf: string;
  let home: string;

  beforeAll(async () => {
    hf = await hfCli();
  }, 320_000);
  beforeEach(async () => {
    home = await mkdtemp(join(tmpdir(), 'modelferry-hf-'));
  });
  afterEach(() => rm(home, { recursive: true, force: true }));

  const download = async (id: string, { revision, token }: { revision?: string; token?: string } = {}): Promise<Files> => {
    const target = join(home, 'model');
    const options = [...(revision ? ['--revision', revision] : []), '--local-dir', target];
    await run(hf, ['download', id, ...options], { env: hfEnv(hub.origin, home, token) });
    const entries = await readdir(target, { recursive: true, withFileTypes: true });
    const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name).slice(target.length + 1));
    const own = paths.filter((path) => !path.startsWith('.cache/'));
    return new Map(await Promise.all(own.sort().map(async (path) => [path, await readFile(join(target, path))] as const)));
  };
  const digests = (model: Files) => Object.fromEntries([...model].sort().map(([path, content]) => [path, sha256Of(content)]));

  test('gives every byte of a branch, a tag and a commit', { timeout: 60_000 }, async () => {
    const repo = hub.repo('acme/tiny-llama');
    const first = repo.sha();
    repo.tag('v1.0');
    repo.commit({ branch: 'next', files: tinyLlama({ seed: 2 }) });
    expect(digests(await download(repo.id))).toEqual(digests(files));
    expect(digests(await download(repo.id, { revision: 'next' }))).toEqual(digests(tinyLlama({ seed: 2 })));
    expect(digests(await download(repo.id, { revision: first }))).toEqual(digests(files));
    expect(digests(await download(repo.id, { revision: 'v1.0' }))).toEqual(digests(files));
    expect(hub.seen(/tree/).length).toBeGreaterThan(3);
  });

  test('gives files with strange names, and Xet files without Xet', { timeout: 60_000 }, async () => {
    const repo = hub.addRepo({ id: 'acme/junk', files: tinyLlama({ junk: true }), xet: true });
    expect(digests(await download(repo.id))).toEqual(digests(repo.files()));
  });

  test('refuses a gated model without a token and gives it with one', { timeout: 60_000 }, async () => {
    hub.addRepo({ id: 'acme/gated-llama', files, gated: 'manual' });
    await expect(download('acme/gated-llama')).rejects.toMatchObject({ stderr: expect.stringMatching(/gated|restricted/i) });
    await expect(download('acme/gated-llama', { token: 'hf_stranger' })).rejects.toMatchObject({ code: 1 });
    expect(hub.cdn.requests).toEqual([]);
    expect(digests(await download('acme/gated-llama', { token: 'hf_granted' }))).toEqual(digests(files));
    expect(hub.cdn.requests.filter((request) => request.headers.authorization)).toEqual([]);
  });

  test('says which of repository, revision or token is wrong', { timeout: 60_000 }, async () => {
    await expect(download('acme/none')).rejects.toMatchObject({ stderr: expect.stringContaining('Invalid username or password.') });
    await expect(download('acme/tiny-llama', { revision: 'none' })).rejects.toMatchObject({ stderr: expect.stringMatching(/revision/i) });
    await expect(download('acme/tiny-llama', { token: 'hf_unknown' })).rejects.toMatchObject({
      stderr: expect.stringContaining('Invalid credentials'),
    });
  });
});
