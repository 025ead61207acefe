import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type HubOptions as ConnectionOptions, hubOf } from '../lib/hub/connection.ts';
import { hubError } from '../lib/hub/errors.ts';
import { listFiles } from '../lib/hub/list.ts';
import { RemoteFile } from '../lib/hub/remote-file.ts';
import { resolveRevision } from '../lib/hub/resolve.ts';
import { createLog, Redactor } from '../lib/log.ts';
import { closeNetwork, setUpNetwork } from '../lib/network.ts';
import { bytesOf, gitBlobOid, sha256Of } from './fakes/content.ts';
import { FakeHub, type FakeRepo, type HubOptions, tooManyRequests } from './fakes/hub.ts';
import { tinyLlama } from './fakes/model.ts';
import { FakeServer } from './fakes/server.ts';

const files = tinyLlama();
const shard = 'model-00001-of-00002.safetensors';
const shardBytes = bytesOf(files.get(shard)!);
const config = bytesOf(files.get('config.json')!);
/** Not of the form `hf_...`: mirrors have others. */
const token = 'mirror-token-123456';

let fake: FakeHub;
let repo: FakeRepo;
let lines: string[];
let open: FakeHub[];

async function start(options: HubOptions = {}): Promise<FakeHub> {
  const hub = await new FakeHub({ tokens: { [token]: { access: ['acme/gated', 'acme/private'] }, outsider: {} }, ...options }).listen();
  open.push(hub);
  hub.addRepo({ id: 'acme/gated', files, gated: 'manual' });
  hub.addRepo({ id: 'acme/private', files, private: true });
  repo = hub.addRepo({ id: 'acme/tiny', files, movedFrom: ['old/tiny'], revisions: { 'refs/pr/1': files, 'a/b': files } });
  return hub;
}

beforeEach(async () => {
  open = [];
  lines = [];
  fake = await start();
});
afterEach(async () => {
  closeNetwork();
  await Promise.all(open.map((hub) => hub.close()));
});

function connect(changes: Partial<ConnectionOptions> & { signal?: AbortSignal } = {}) {
  const log = createLog({ level: 'debug', format: 'json', redactor: new Redactor(), write: (line) => lines.push(line) });
  const { signal = new AbortController().signal, ...options } = changes;
  return hubOf({ hubUrl: fake.origin, retries: 4, stallTimeout: 5000, ...options }, { log, signal });
}

describe('resolveRevision', () => {
  test('tells the commit and what the Hub says of it', async () => {
    expect(await resolveRevision(connect(), 'acme/tiny', 'main')).toMatchObject({
      commit: repo.sha(),
      gated: false,
      private: false,
      license: 'apache-2.0',
      languages: ['en'],
      pipelineTag: 'text-generation',
      library: 'transformers',
    });
    expect(await resolveRevision(connect(), 'acme/gated', 'main')).toMatchObject({ gated: 'manual' });
  });

  test.each(['refs/pr/1', 'a/b', 'v1'])('takes %s', async (revision) => {
    repo.tag('v1');
    expect((await resolveRevision(connect(), 'acme/tiny', revision)).commit).toBe(repo.sha(revision));
  });

  test('follows a model that was renamed, and says so', async () => {
    expect((await resolveRevision(connect(), 'old/tiny', 'main')).commit).toBe(repo.sha());
    expect(lines.join()).toContain('another name');
  });

  test('takes a mirror that has a path', async () => {
    const mirror = await new FakeServer(async (request, response) => {
      response.writeHead(307, { location: `${fake.origin}${request.url?.replace('/proxy/hf', '')}` }).end();
    }).listen();
    expect((await resolveRevision(connect({ hubUrl: `${mirror.origin}/proxy/hf//` }), 'acme/tiny', 'main')).commit).toBe(repo.sha());
    await mirror.close();
  });

  test.each([
    ['a missing model', 'acme/none', 'main', undefined, 'not-found', /HF_TOKEN/],
    ['a missing model, with a token', 'acme/none', 'main', token, 'not-found', /may read it/],
    ['a private model', 'acme/private', 'main', undefined, 'not-found', /private/],
    ['a private model of others', 'acme/private', 'main', 'outsider', 'not-found', /may read it/],
    ['a missing revision', 'acme/tiny', 'v9', undefined, 'not-found', /branches and tags/],
    ['a short commit', 'acme/tiny', '0123abc', undefined, 'not-found', /in full/],
    ['a token that nobody knows', 'acme/tiny', 'main', 'bad-token', 'denied', /HF_TOKEN/],
  ])('%s', async (_, id, revision, hubToken, kind, hint) => {
    const error = await resolveRevision(connect({ hubToken }), id, revision).catch((caught: unknown) => caught);
    expect(error).toMatchObject({
      kind,
      message: expect.stringContaining(`failed to find ${id} at ${revision}: `),
      hint: expect.stringMatching(hint),
    });
    expect(fake.requests).toHaveLength(1);
  });

  test('reads a private model with a token of any form', async () => {
    expect((await resolveRevision(connect({ hubToken: token }), 'acme/private', 'main')).private).toBe(true);
  });

  test.each([
    ['a page', { status: 200, body: '<html>Log in</html>' }],
    ['other JSON', { status: 200, body: '{"version": 1}' }],
    ['a strange status', { status: 418 }],
    ['a redirect in a circle', { status: 302, headers: { location: '/api/models/acme/tiny/revision/main' } }],
    ['a redirect to nowhere', { status: 302, headers: { location: 'http://[' } }],
  ])('%s is no Hub', async (_, answer) => {
    fake.fail({ on: /revision/, times: 99, answer });
    await expect(resolveRevision(connect(), 'acme/tiny', 'main')).rejects.toMatchObject({ kind: 'usage' });
    expect(fake.requests.length).toBeLessThanOrEqual(6);
  });

  test.each([
    ['a server error', { answer: { status: 503 } }],
    ['a rate limit', { answer: tooManyRequests(0) }],
    ['a reset', { cutAfter: -1 }],
    ['a cut answer', { cutAfter: 20 }],
    ['silence', { stallAfter: -1 }],
    ['silence in the middle', { stallAfter: 20 }],
  ])('gets over %s', async (_, fault) => {
    fake.fail({ on: /revision/, ...fault });
    const hub = connect({ stallTimeout: 200 });
    expect((await resolveRevision(hub, 'acme/tiny', 'main')).commit).toBe(repo.sha());
    expect(fake.requests).toHaveLength(2);
  });

  test('gives up after the retries', async () => {
    fake.fail({ on: /revision/, times: 99, answer: { status: 500 } });
    await expect(resolveRevision(connect({ retries: 1 }), 'acme/tiny', 'main')).rejects.toMatchObject({ kind: 'transient' });
    expect(fake.requests).toHaveLength(2);
  });

  test.each(['ftp://x', 'http://user:secret@x', 'http://x?token=secret'])('%s is no address for a Hub', (hubUrl) => {
    const attempt = () => {
      const hub = connect({ hubUrl });
      return resolveRevision(hub, 'acme/tiny', 'main');
    };
    return expect((async () => attempt())()).rejects.toMatchObject({ kind: 'usage', message: expect.not.stringContaining('secret') });
  });
});

test('a wait is told by Retry-After, and by RateLimit where there is no other', () => {
  const asked = { doing: 'x', repo: 'a/b', hubUrl: 'http://h', hasToken: false };
  expect(hubError(asked, 429, { 'retry-after': '7' }).retryAfterMs).toBe(7000);
  expect(hubError(asked, 503, { 'retry-after': '7' }).retryAfterMs).toBe(7000);
  expect(hubError(asked, 429, { ratelimit: '"api";r=0;t=55' }).retryAfterMs).toBe(55_000);
  expect(hubError(asked, 503, {}).retryAfterMs).toBeUndefined();
});

describe('listFiles', () => {
  test('lists every page, each file with its digest', async () => {
    fake = await start({ pageSize: 3 });
    const found = await listFiles(connect(), 'acme/tiny', repo.sha());
    const expected = [...files].map(([path, content]) => {
      const lfs = path.endsWith('.safetensors');
      return { path, size: bytesOf(content).length, ...(lfs ? { sha256: sha256Of(content) } : { gitSha1: gitBlobOid(content) }) };
    });
    expect(found.sort((a, b) => (a.path < b.path ? -1 : 1))).toEqual(expected.sort((a, b) => (a.path < b.path ? -1 : 1)));
    expect(fake.seen(/\/tree\//)).toHaveLength(Math.ceil(files.size / 3));
  });

  test('follows a next page whose address is relative', async () => {
    fake = await start({ pageSize: 3 });
    const path = `/api/models/acme/tiny/tree/${repo.sha()}?recursive=true&expand=false`;
    const first = await fetch(fake.origin + path);
    const next = /<[^>]*?(\/api[^>]*)>/.exec(first.headers.get('link') ?? '')?.[1];
    fake.fail({ on: /tree/, answer: { status: 200, headers: { link: `<${next}>;rel=next` }, body: await first.text() } });
    expect(await listFiles(connect(), 'acme/tiny', repo.sha())).toHaveLength(files.size);
  });

  test('refuses a next page on another origin, and does not ask for it', async () => {
    const other = await start();
    fake = await start({ pageSize: 3, publicUrl: other.origin });
    await expect(listFiles(connect({ hubToken: token }), 'acme/tiny', repo.sha())).rejects.toMatchObject({ kind: 'refused' });
    expect(other.requests).toEqual([]);
  });

  test('pages that do not end are noticed', async () => {
    const link = `<${fake.origin}/api/models/acme/tiny/tree/x?recursive=true&expand=false>; rel="next"`;
    fake.fail({ on: /tree/, times: 99, answer: { status: 200, headers: { link }, body: '[]' } });
    await expect(listFiles(connect(), 'acme/tiny', 'x')).rejects.toMatchObject({ kind: 'integrity' });
    expect(fake.requests).toHaveLength(1);
  });

  test.each([
    ['no JSON', '<html>', 'usage'],
    ['no list', '{"error": "x"}', 'usage'],
    ['a file without a digest', '[{"type":"file","path":"a","size":1}]', 'integrity'],
    ['a file without a size', `[{"type":"file","path":"a","oid":"${'a'.repeat(40)}"}]`, 'integrity'],
    ['a negative size', `[{"type":"file","path":"a","size":-1,"oid":"${'a'.repeat(40)}"}]`, 'integrity'],
  ])('%s is refused', async (_, body, kind) => {
    fake.fail({ on: /tree/, answer: { status: 200, body } });
    await expect(listFiles(connect(), 'acme/tiny', repo.sha())).rejects.toMatchObject({ kind });
  });

  test('gets over faults on a page', async () => {
    fake = await start({ pageSize: 3 });
    fake.fail({ on: /cursor/, answer: { status: 502 } });
    fake.fail({ on: /cursor/, skip: 1, cutAfter: 10 });
    expect(await listFiles(connect(), 'acme/tiny', repo.sha())).toHaveLength(files.size);
  });

  test('a mirror that gates listings', async () => {
    fake.repo('acme/gated').gateListing = true;
    const list = (hubToken?: string) => listFiles(connect({ hubToken }), 'acme/gated', fake.repo('acme/gated').sha());
    await expect(list()).rejects.toMatchObject({ kind: 'denied', hint: expect.stringContaining(`${fake.origin}/acme/gated`) });
    expect(await list(token)).toHaveLength(files.size);
  });
});

/** Through the direct path, and through node:http as where a proxy may be. */
describe.each(['direct', 'over node:http'])('RemoteFile, %s', (way) => {
  beforeEach(() => setUpNetwork(way === 'direct' ? {} : { proxyEnv: { HTTP_PROXY: 'http://127.0.0.1:9', NO_PROXY: '127.0.0.1' } }));

  function remote(path = shard, changes: Parameters<typeof connect>[0] = {}, id = 'acme/tiny') {
    const content = files.get(path)!;
    const digest = path === shard ? { sha256: sha256Of(content) } : { gitSha1: gitBlobOid(content) };
    const hub = connect(changes);
    const file = new RemoteFile(hub, id, fake.repo(id).sha(), { path, size: bytesOf(content).length, ...digest });
    let counted = 0;
    return {
      counted: () => counted,
      async read(offset: number, length: number, signal = hub.signal) {
        const into = Buffer.alloc(length);
        await file.read(offset, into, (bytes) => (counted += bytes), signal);
        return into;
      },
    };
  }

  /** Reads all of the shard in parts, side by side. */
  async function readAll(file: ReturnType<typeof remote>, part = 20_000): Promise<Buffer> {
    const offsets = Array.from({ length: Math.ceil(shardBytes.length / part) }, (_, index) => index * part);
    return Buffer.concat(await Promise.all(offsets.map((at) => file.read(at, Math.min(part, shardBytes.length - at)))));
  }

  test('reads parts side by side; the Hub is asked once, and only it sees the token', async () => {
    const file = remote(shard, { hubToken: token });
    expect((await readAll(file)).equals(shardBytes)).toBe(true);
    expect(file.counted()).toBe(shardBytes.length);
    expect(fake.requests.map(({ headers }) => headers.authorization)).toEqual([`Bearer ${token}`]);
    expect(fake.cdn.requests).toHaveLength(Math.ceil(shardBytes.length / 20_000));
    expect(fake.cdn.requests.filter(({ headers }) => headers.authorization !== undefined)).toEqual([]);
  });

  test('reads small files from the Hub itself, whole, with the token', async () => {
    const file = remote('config.json', { hubToken: token }, 'acme/private');
    expect((await file.read(0, config.length)).equals(config)).toBe(true);
    expect((await file.read(10, 20)).equals(config.subarray(10, 30))).toBe(true);
    expect(fake.cdn.requests).toEqual([]);
    expect(fake.requests.every(({ headers }) => headers.authorization === `Bearer ${token}`)).toBe(true);
  });

  test('names in an address are encoded', async () => {
    const odd = new Map([["a b/it's 100%#1?+&.txt", Buffer.from('odd')]]);
    fake.addRepo({ id: 'acme/odd', files: odd });
    const [[path, content]] = [...odd] as [[string, Buffer]];
    const file = new RemoteFile(connect(), 'acme/odd', fake.repo('acme/odd').sha(), { path, size: 3, gitSha1: gitBlobOid(content) });
    const into = Buffer.alloc(3);
    await file.read(0, into, () => {}, new AbortController().signal);
    expect(into.toString()).toBe('odd');
  });

  test('asks for a new link when the old one has ended', async () => {
    const file = remote();
    await file.read(0, 10);
    fake.revokeLinks();
    expect((await readAll(file)).equals(shardBytes)).toBe(true);
    expect(lines.join()).not.toContain('trying again');
  });

  test('links for one use are no trouble', async () => {
    fake = await start({ linkUses: 1 });
    expect((await readAll(remote())).equals(shardBytes)).toBe(true);
  });

  test('a CDN that refuses fresh links is denied, with what may be in the way', async () => {
    fake = await start({ linkUses: 0 });
    await expect(remote().read(0, 10)).rejects.toMatchObject({ kind: 'denied', message: expect.stringContaining(fake.cdn.origin) });
  });

  test.each([
    ['cut', { cutAfter: 50_000 }],
    ['short', { shortAfter: 50_000 }],
    ['silent', { stallAfter: 50_000 }],
  ])('goes on where an answer was %s', async (_, fault) => {
    const file = remote(shard, { stallTimeout: 300 });
    await file.read(0, 10);
    fake.cdn.fail({ on: /./, ...fault });
    expect((await file.read(0, 100_000)).equals(shardBytes.subarray(0, 100_000))).toBe(true);
    const [, first, second] = fake.cdn.requests;
    expect(first?.headers.range).toBe('bytes=0-99999');
    expect(Number(/bytes=(\d+)-99999/.exec(String(second?.headers.range))?.[1])).toBe(file.counted() - 10 - (second?.bytesOut ?? 0));
    expect(second?.bytesOut).toBeLessThanOrEqual(50_000 + 1);
    expect(file.counted()).toBe(10 + 100_000);
  });

  test('goes on where a whole file was cut', async () => {
    const file = remote();
    fake.cdn.fail({ on: /./, cutAfter: 70_000 });
    expect((await file.read(0, shardBytes.length)).equals(shardBytes)).toBe(true);
    expect(fake.cdn.requests.map(({ headers }) => headers.range)).toEqual([undefined, `bytes=70000-${shardBytes.length - 1}`]);
  });

  test.each([
    ['503', { answer: { status: 503 } }],
    ['429', { answer: tooManyRequests(0) }],
    ['a reset', { cutAfter: -1 }],
  ])('gets over %s of Hub and CDN', async (_, fault) => {
    fake.fail({ on: /resolve/, ...fault });
    fake.cdn.fail({ on: /./, times: 2, ...fault });
    const file = remote();
    expect((await readAll(file)).equals(shardBytes)).toBe(true);
    expect(file.counted()).toBe(shardBytes.length);
  });

  test('gives up after the retries', async () => {
    fake.cdn.fail({ on: /./, times: 99, answer: { status: 500 } });
    await expect(remote(shard, { retries: 2 }).read(0, 10)).rejects.toMatchObject({ kind: 'transient' });
    expect(fake.cdn.requests).toHaveLength(3);
  });

  test('a server that knows no ranges is read once, in one stream', async () => {
    fake = await start({ ranges: false });
    const file = remote();
    expect((await readAll(file)).equals(shardBytes)).toBe(true);
    expect(file.counted()).toBe(shardBytes.length);
    // The one that showed it, and the one that is read.
    expect(fake.cdn.requests.length).toBeLessThanOrEqual(2);
  });

  test('and its stream goes on after a cut', async () => {
    fake = await start({ ranges: false });
    fake.cdn.fail({ on: /./, skip: 1, cutAfter: 60_000 });
    const file = remote();
    expect((await readAll(file)).equals(shardBytes)).toBe(true);
    expect(file.counted()).toBe(shardBytes.length);
    expect((await file.read(500, 1000)).equals(shardBytes.subarray(500, 1500))).toBe(true);
  });

  const partial = (headers: Record<string, string>) => ({
    status: 206,
    headers: { 'content-range': `bytes 100-109/${shardBytes.length}`, ...headers },
    body: 'x'.repeat(10),
  });
  test.each([
    ['another range', partial({ 'content-range': `bytes 90-99/${shardBytes.length}` })],
    ['a range that is too long', partial({ 'content-range': `bytes 100-110/${shardBytes.length}` })],
    ['a file of another size', partial({ 'content-range': 'bytes 100-109/99999' })],
    ['no Content-Range', partial({ 'content-range': '' })],
    ['another ETag', partial({ etag: '"another"' })],
    ['compressed bytes', partial({ 'content-encoding': 'gzip' })],
    ['416', { status: 416 }],
  ])('%s is integrity', async (_, answer) => {
    const file = remote();
    await file.read(0, 10);
    fake.cdn.fail({ on: /./, answer });
    await expect(file.read(100, 10)).rejects.toMatchObject({ kind: 'integrity' });
  });

  test('a whole that is longer than the listing says is integrity', async () => {
    fake.cdn.fail({ on: /./, answer: { status: 200, body: 'x'.repeat(shardBytes.length + 1) } });
    await expect(remote().read(0, shardBytes.length)).rejects.toMatchObject({ kind: 'integrity' });
  });

  test('another file behind the same name on the Hub is integrity', async () => {
    const file = remote();
    await file.read(0, 10);
    fake.revokeLinks();
    const location = `${fake.cdn.origin}/elsewhere`;
    fake.fail({ on: /resolve/, answer: { status: 302, headers: { location, 'x-linked-etag': '"other"' } } });
    fake.cdn.fail({ on: /elsewhere/, answer: partial({}) });
    await expect(file.read(100, 10)).rejects.toMatchObject({ kind: 'integrity' });
  });

  test.each([
    ['a gated model without a token', 'acme/gated', undefined, 'denied', 'set HF_TOKEN'],
    ['a gated model with the token of somebody else', 'acme/gated', 'outsider', 'denied', 'ask for access'],
    ['a private model', 'acme/private', undefined, 'not-found', 'private'],
  ])('%s', async (_, id, hubToken, kind, hint) => {
    await expect(remote(shard, { hubToken }, id).read(0, 10)).rejects.toMatchObject({ kind, hint: expect.stringContaining(hint) });
    expect(fake.requests).toHaveLength(1);
  });

  test('reads a gated model with a token that has access', async () => {
    expect((await remote(shard, { hubToken: token }, 'acme/gated').read(0, 10)).equals(shardBytes.subarray(0, 10))).toBe(true);
  });

  test('the signal ends reads that wait and reads that run', async () => {
    const stop = new AbortController();
    fake.cdn.fail({ on: /./, times: 99, stallAfter: 5 });
    const file = remote();
    const reads = [0, 100, 200].map((offset) => file.read(offset, 100, stop.signal));
    await expect.poll(() => fake.cdn.requests.length, { interval: 1 }).toBe(3);
    stop.abort(new Error('stopped'));
    expect((await Promise.allSettled(reads)).map((read) => String((read as PromiseRejectedResult).reason))).toEqual(
      Array(3).fill('Error: stopped'),
    );
  });
});
