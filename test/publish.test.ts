import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { kindOf, StepError } from '../lib/errors.ts';
import { sha256Of } from '../lib/integrity.ts';
import { type Manifest, makeManifest, manifestBytes } from '../lib/manifest.ts';
import { schema } from '../lib/params/declare.ts';
import { s3Params } from '../lib/params/groups/store.ts';
import { readParams } from '../lib/params/read.ts';
import { Progress } from '../lib/progress.ts';
import { contentOf } from '../lib/publish/content.ts';
import { cuttingOf, partSizeFor } from '../lib/publish/part-size.ts';
import { type PublishOptions, type PublishOutcome, planPublish, publish } from '../lib/publish/publish.ts';
import { type ByteSource, makeSender } from '../lib/publish/send.ts';
import { S3Connection } from '../lib/s3/connection.ts';
import { S3Store } from '../lib/s3/store.ts';
import { s3Settings } from '../lib/s3-settings.ts';
import { Budget } from '../lib/transfer/budget.ts';
import { BufferPool, bufferBytes } from '../lib/transfer/buffers.ts';
import { FakeS3, s3Answer } from './fakes/s3.ts';

const partSize = 5 * 1024 ** 2;
const bucket = 'models';
const prefix = 'model-data/tiny/1';
const manifestKey = `.modelferry/manifests/${prefix}.json`;
const claimKey = `.modelferry/claims/${prefix}.json`;
const log = pino({ level: 'silent' });

let server: FakeS3;
beforeEach(async () => {
  server = new FakeS3();
  await server.listen();
  server.createBucket(bucket);
});
afterEach(() => server.close());

type Files = Record<string, Buffer>;

const weights = randomBytes(2 * partSize + 1000);
const tiny: Files = { 'config.json': Buffer.from('{}'), 'model.safetensors': weights, 'sub/empty.txt': Buffer.alloc(0) };

function manifestOf(files: Files, commit = 'a'.repeat(40)): Manifest {
  const list = Object.entries(files).map(([path, bytes]) => ({
    path,
    size: bytes.length,
    sha256: createHash('sha256').update(bytes).digest('hex'),
  }));
  return makeManifest({
    source: { repo: 'acme/tiny', commit },
    selection: { allowPatterns: [], ignorePatterns: [], profile: 'all' },
    files: list,
  });
}

interface Run extends Partial<PublishOptions> {
  manifest?: Manifest;
  files?: Files;
  retries?: number;
}

/** One run of a process: its own store client, buffers and signal. */
async function run({ files = tiny, retries = 1, ...options }: Run = {}): Promise<PublishOutcome> {
  return await publish(optionsFor({ files, retries, ...options }));
}

function optionsFor({ files = tiny, retries = 1, manifest = manifestOf(files), ...options }: Run): PublishOptions {
  const { accessKeyId, secretAccessKey } = server.credentials;
  const env = { S3_BUCKET: bucket, S3_ENDPOINT: server.origin, S3_ACCESS_KEY_ID: accessKeyId, S3_SECRET_ACCESS_KEY: secretAccessKey };
  const { values } = readParams(schema(s3Params), { argv: [], env });
  const signal = options.signal ?? new AbortController().signal;
  const store = new S3Store(new S3Connection({ settings: s3Settings(values), checksum: 'auto', retries, stallTimeout: 5000, signal, log }));
  const progress = new Progress({ log });
  const open = async (file: { path: string }): Promise<ByteSource> => ({
    async read(offset, into) {
      (files[file.path] as Buffer).copy(into, 0, offset, offset + into.length);
    },
    close: async () => {},
  });
  return {
    store,
    log,
    signal,
    progress,
    content: contentOf(manifest),
    source: Buffer.from('{"url":"x"}'),
    prefix,
    controlPrefix: '.modelferry',
    versionsPrefix: 'model-data/tiny/',
    runId: randomUUID(),
    replace: false,
    rayHash: false,
    waitTimeout: 0,
    concurrency: 4,
    claimTiming: { renewMs: 60_000, staleMs: 600_000, pollMs: 1 },
    send: makeSender({
      store,
      open,
      partSize,
      connections: new Budget(4),
      sources: new Budget(2),
      buffers: new BufferPool(8 * partSize),
      progress,
    }),
    ...options,
  };
}

const stored = () =>
  Object.fromEntries(server.keys(bucket, `${prefix}/`).map((key) => [key.slice(prefix.length + 1), server.object(bucket, key)?.size]));
const sizes = (files: Files) => Object.fromEntries(Object.entries(files).map(([path, bytes]) => [path, bytes.length]));
const openUploads = () => server.uploads(bucket).map((upload) => upload.key);
const kindIs = (kind: string) => (error: unknown) => kindOf(error) === kind;

/** Holds these requests, each the nth (from 1) of its kind that is not held already, until all of them have come: who asks them in turn never gets on. */
function holdUntilAllCome(wanted: readonly [RegExp, number][]): void {
  const all = Promise.withResolvers<void>();
  let missing = wanted.length;
  for (const [pattern, nth] of wanted) {
    let seen = 0;
    const on = ({ method, url }: { method: string; url: string }) => {
      if (!pattern.test(`${method} ${decodeURIComponent(url)}`)) return false;
      seen += 1;
      if (seen !== nth) return false;
      missing -= 1;
      if (missing === 0) all.resolve();
      return true;
    };
    server.fail({ on, hold: all.promise });
  }
}

/** Nothing half done: no manifest, no claim left open, and nothing that another run could trip over. */
function expectNothingPublished(): void {
  expect(server.object(bucket, manifestKey)).toBeUndefined();
}

describe('publish', () => {
  test('puts every file where the repo has it, the manifest last, and no claim behind', async () => {
    const outcome = await run();
    expect(outcome).toMatchObject({ unchanged: false, copiedBytes: 0, uploadedBytes: weights.length + 2 });
    expect(stored()).toEqual(sizes(tiny));
    expect(outcome.bytes.equals(manifestBytes(manifestOf(tiny)))).toBe(true);
    expect(server.keys(bucket, '.modelferry/')).toEqual([
      `.modelferry/manifests/${prefix}.json`,
      `.modelferry/source/${prefix}.json`,
      `.modelferry/stored/${prefix}.json`,
    ]);
    const puts = server.seen(/^PUT /).map((request) => request.url);
    expect(puts.at(-1)).toContain(manifestKey);
    expect(openUploads()).toEqual([]);
  });

  test('asks side by side what waits for nothing else: a store may be far', async () => {
    const records = '\\.modelferry/manifests/model-data';
    const others: [RegExp, number][] = [
      [new RegExp(`^HEAD .*${records}\\.json`), 1],
      [new RegExp(`^HEAD .*${records}/tiny\\.json`), 1],
      [new RegExp(`^GET .*prefix=${records}/tiny/1/`), 1],
    ];
    const manifest = new RegExp(`^GET .*${records}/tiny/1\\.json`);
    holdUntilAllCome([...others, [manifest, 1]]);
    // The one in between is the look under the claim.
    holdUntilAllCome([
      [manifest, 2],
      [/^GET .*prefix=model-data\/tiny\/1\//, 1],
    ]);
    holdUntilAllCome([
      [new RegExp(`^GET .*prefix=${records}/tiny/(?!1)`), 1],
      [/^PUT .*claims/, 2],
    ]);
    holdUntilAllCome([...others, [/^PUT .*\/stored\//, 1], [/^PUT .*\/source\//, 1]]);
    expect(await run({ retries: 0 })).toMatchObject({ unchanged: false });
  });

  test('sends nothing when the same model is there', async () => {
    await run();
    const before = server.seen(/^(PUT|POST|DELETE) /).length;
    expect(await run()).toMatchObject({ unchanged: true, uploadedBytes: 0 });
    expect(server.seen(/^(PUT|POST|DELETE) /).length).toBe(before);
  });

  test('publishes again what was damaged', async () => {
    await run();
    await optionsFor({}).store.delete([`${prefix}/config.json`]);
    expect(await run()).toMatchObject({ unchanged: false, uploadedBytes: 2 });
    expect(stored()).toEqual(sizes(tiny));
    expect(server.object(bucket, manifestKey)).toBeDefined();
  });

  test('refuses other content, and replaces it when told to', async () => {
    await run();
    const other: Files = { 'config.json': Buffer.from('{"other":1}'), 'model.safetensors': weights };
    await expect(run({ files: other })).rejects.toSatisfy(kindIs('refused'));
    expect(stored()).toEqual(sizes(tiny));
    const outcome = await run({ files: other, replace: true });
    expect(outcome.uploadedBytes).toBe(11);
    expect(stored()).toEqual(sizes(other));
    const deletes = server.requests.findIndex((r) => r.method === 'DELETE' && r.url.includes(manifestKey));
    const sends = server.requests.findLastIndex((r) => r.method === 'PUT' && r.url.includes(`${prefix}/config.json`));
    expect(deletes).toBeGreaterThan(0);
    expect(deletes).toBeLessThan(sends);
  });

  test('refuses objects that are not ours, and clears them when told to', async () => {
    const { store } = optionsFor({});
    await store.put(`${prefix}/model.gguf`, Buffer.from('mine'));
    await store.put(`${prefix}/config.json`, Buffer.from('mine'));
    await expect(run()).rejects.toThrow(/config\.json, .*model\.gguf/);
    expectNothingPublished();
    expect(server.object(bucket, claimKey)).toBeUndefined();
    await run({ replace: true });
    expect(stored()).toEqual(sizes(tiny));
  });

  test('refuses a prefix inside or above a published one', async () => {
    await run();
    await expect(run({ prefix: `${prefix}/deeper` })).rejects.toSatisfy(kindIs('refused'));
    await expect(run({ prefix: 'model-data' })).rejects.toSatisfy(kindIs('refused'));
    await run({ prefix: `${prefix}0` });
  });

  test('copies inside the store what another version has', async () => {
    await run();
    const next: Files = { ...tiny, 'README.md': Buffer.from('new card') };
    const outcome = await run({ files: next, manifest: manifestOf(next, 'b'.repeat(40)), prefix: 'model-data/tiny/2' });
    expect(outcome).toMatchObject({ uploadedBytes: 8, copiedBytes: weights.length + 2 });
    expect(server.seen(/^PUT .*uploadId/).filter((r) => r.url.includes('tiny/2'))).toEqual([]);
    const copied = server.object(bucket, 'model-data/tiny/2/model.safetensors');
    expect(copied?.size).toBe(weights.length);
  });

  test('sends what cannot be copied because its source has changed', async () => {
    await run();
    const { store } = optionsFor({});
    await store.put(`${prefix}/config.json`, Buffer.from('[]'));
    const outcome = await run({ prefix: 'model-data/tiny/2' });
    expect(outcome).toMatchObject({ uploadedBytes: 2, copiedBytes: weights.length });
    expect((await store.get('model-data/tiny/2/config.json'))?.bytes.toString()).toBe('{}');
  });

  test.each(['config.json', 'model.safetensors'])('never makes an object of wrong bytes: %s', async (path) => {
    const manifest = manifestOf(tiny);
    const wrong = { ...tiny, [path]: Buffer.from(tiny[path] as Buffer).fill(7, 1, 2) };
    await expect(run({ files: wrong, manifest })).rejects.toSatisfy(kindIs('integrity'));
    expectNothingPublished();
    expect(Object.keys(stored())).not.toContain(path);
    expect(openUploads()).toEqual([]);
    expect(server.object(bucket, claimKey)).toBeUndefined();
  });

  test('keeps parts after a transient failure, and a rerun sends the rest', async () => {
    server.fail({ on: /^PUT .*partNumber=2/, times: 10, answer: { status: 503 } });
    await expect(run()).rejects.toSatisfy(kindIs('transient'));
    expectNothingPublished();
    expect(openUploads()).toEqual([`${prefix}/model.safetensors`]);
    server.clearFaults();
    const before = server.requests.length;
    await run();
    const parts = server.requests.slice(before).filter((r) => r.method === 'PUT' && r.url.includes('partNumber'));
    expect(parts.map((r) => /partNumber=(\d+)/.exec(r.url)?.[1])).toEqual(['2']);
    expect(stored()).toEqual(sizes(tiny));
    expect(openUploads()).toEqual([]);
  });

  test('aborts its uploads after a permanent failure', async () => {
    server.fail({ on: /^PUT .*partNumber=2/, times: 10, answer: { status: 403 } });
    await expect(run()).rejects.toSatisfy(kindIs('denied'));
    expect(openUploads()).toEqual([]);
    expect(server.object(bucket, claimKey)).toBeUndefined();
    expectNothingPublished();
  });

  test('stops on SIGTERM and goes on in the next run', async () => {
    const abort = new AbortController();
    server.fail({ on: /^PUT .*partNumber=3/, stallAfter: -1, times: 1 });
    const first = run({ signal: abort.signal });
    await until(
      () => server.seen(/^PUT .*partNumber=3/).length > 0 && server.seen(/^PUT .*partNumber=[12]/).every((r) => r.status === 200),
    );
    abort.abort(new StepError('terminated', 'ended by SIGTERM'));
    await expect(first).rejects.toSatisfy(kindIs('terminated'));
    expect(openUploads()).toEqual([`${prefix}/model.safetensors`]);
    const before = server.requests.length;
    await run();
    const parts = server.requests.slice(before).filter((r) => r.method === 'PUT' && r.url.includes('partNumber'));
    expect(parts.length).toBe(1);
    expect(stored()).toEqual(sizes(tiny));
  });

  test('finds its object when the answer to the completion was lost', async () => {
    server.fail({ on: /^POST .*uploadId=/, loseAnswer: true });
    await run();
    expect(stored()).toEqual(sizes(tiny));
    expect(openUploads()).toEqual([]);
  });

  test('begins an upload again that somebody aborted under it', async () => {
    let dropped = false;
    const drop = (url: string) => {
      if (!dropped)
        dropped = server.buckets.get(bucket)?.uploads.delete(new URL(url, server.origin).searchParams.get('uploadId') ?? '') === true;
      return dropped;
    };
    server.fail({
      on: ({ method, url }) => method === 'PUT' && /partNumber=2/.test(url) && drop(url),
      answer: s3Answer('NoSuchUpload'),
    });
    await run();
    expect(stored()).toEqual(sizes(tiny));
    expect(openUploads()).toEqual([]);
  });

  test('takes the object that an earlier try of its own made of the upload under it', async () => {
    const complete = (url: string) => {
      const uploadId = new URL(url, server.origin).searchParams.get('uploadId') ?? '';
      const upload = server.uploads(bucket).find((each) => each.id === uploadId);
      if (!upload) return false;
      server.buckets.get(bucket)?.uploads.delete(uploadId);
      server.put(bucket, upload.key, weights, { metadata: { 'modelferry-sha256': sha256Of(weights) } });
      return true;
    };
    server.fail({
      on: ({ method, url }) => method === 'PUT' && /partNumber=2/.test(url) && complete(url),
      answer: s3Answer('NoSuchUpload'),
    });
    await run();
    expect(stored()).toEqual(sizes(tiny));
    expect(server.seen(/^POST .*uploadId=/)).toEqual([]);
  });

  test('of two runs at once with the same model, one sends it', async () => {
    const [a, b] = await Promise.all([run({ waitTimeout: 20_000 }), run({ waitTimeout: 20_000 })]);
    expect([a.unchanged, b.unchanged].sort()).toEqual([false, true]);
    expect(server.seen(/^POST .*uploads/).length).toBe(1);
    expect(stored()).toEqual(sizes(tiny));
  });

  test('of two runs at once with different models, one is refused', async () => {
    const other: Files = { 'config.json': Buffer.from('{"other":1}') };
    const ends = await Promise.allSettled([run({ waitTimeout: 20_000 }), run({ waitTimeout: 20_000, files: other })]);
    expect(ends.map((end) => end.status).sort()).toEqual(['fulfilled', 'rejected']);
    const lost = ends.find((end) => end.status === 'rejected');
    expect(kindOf(lost?.reason)).toBe('refused');
    expect([sizes(tiny), sizes(other)]).toContainEqual(stored());
  });

  test('waits for a live peer and touches nothing of it', async () => {
    await leaveClaim({ ageMs: 0 });
    await expect(run()).rejects.toSatisfy(kindIs('transient'));
    expect(openUploads()).toEqual([`${prefix}/model.safetensors`]);
    expect(server.object(bucket, claimKey)).toBeDefined();
  });

  test.each([false, true])(
    'takes a stale claim over, with the uploads that it names and those on keys it announced (listed by key alone: %s)',
    async (uploadsByKey) => {
      await server.close();
      server = await new FakeS3({ uploadsByKey }).listen();
      server.createBucket(bucket);
      await leaveClaim({ ageMs: 601_000, unnamed: true });
      await run();
      expect(stored()).toEqual(sizes(tiny));
      expect(openUploads()).toEqual([]);
      expect(server.object(bucket, claimKey)).toBeUndefined();
    },
  );

  test('takes away what a run left that was killed right after its manifest', async () => {
    await run();
    const runId = await leaveClaim({ ageMs: 0, unnamed: true });
    await optionsFor({}).store.put('.modelferry/probe', Buffer.from('asked'));
    expect(await run({ runId })).toMatchObject({ unchanged: true });
    expect(server.object(bucket, claimKey)).toBeUndefined();
    expect(server.object(bucket, '.modelferry/probe')).toBeUndefined();
    expect(openUploads()).toEqual([]);
  });

  test('leaves the claim of a living run alone where nothing is to be done', async () => {
    await run();
    await leaveClaim({ ageMs: 0 });
    expect(await run()).toMatchObject({ unchanged: true });
    expect(server.object(bucket, claimKey)).toBeDefined();
    expect(openUploads().length).toBe(1);
  });

  test('believes in conditional writes also when another run takes the probe away in the middle', async () => {
    const { store } = optionsFor({});
    server.fail({
      on: ({ method, url, headers }) => {
        const asks = method === 'PUT' && url.includes('/probe') && headers['if-none-match'] !== undefined;
        if (asks && !taken) {
          taken = true;
          server.buckets.get(bucket)?.remove('.modelferry/probe');
        }
        return false;
      },
    });
    let taken = false;
    expect(await store.probe('.modelferry/probe')).toEqual({ conditionalWrites: true });
    expect(taken).toBe(true);
  });

  test('takes its own claim over at once', async () => {
    const runId = await leaveClaim({ ageMs: 0 });
    await run({ runId });
    expect(stored()).toEqual(sizes(tiny));
    expect(openUploads()).toEqual([]);
  });

  test('adds the sidecar that Ray reads, only when asked', async () => {
    await run({ rayHash: true });
    expect(stored()).toEqual({ ...sizes(tiny), hash: 40 });
    expect(await run({ rayHash: true })).toMatchObject({ unchanged: true });
    // Left by a run that was killed right before its manifest.
    await optionsFor({}).store.delete([manifestKey, `.modelferry/stored/${prefix}.json`]);
    expect(await run({ rayHash: true })).toMatchObject({ unchanged: false, uploadedBytes: 0 });
  });

  test('tells beforehand what it would do, and writes nothing', async () => {
    await run();
    const next: Files = { ...tiny, 'README.md': Buffer.from('new card') };
    const before = server.seen(/^(PUT|POST|DELETE) /).length;
    const { send, progress, runId, waitTimeout, ...options } = optionsFor({ files: next, prefix: 'model-data/tiny/2' });
    const plan = await planPublish(options);
    expect(plan.send.map((file) => file.path)).toEqual(['README.md']);
    expect(plan.copy.map((file) => file.path)).toEqual(['config.json', 'model.safetensors', 'sub/empty.txt']);
    expect(server.seen(/^(PUT|POST|DELETE) /).length).toBe(before);
  });
});

describe('parts', () => {
  const mebibyte = 1024 ** 2;
  const limits = { maxPut: 5 * 1024 ** 3, maxCopy: 5 * 1024 ** 3, minPart: 5 * mebibyte, maxPart: 5 * 1024 ** 3, maxParts: 10_000 };
  const cut = (concurrency: number, partSize = 16 * mebibyte) => cuttingOf({ partSize, maxMemory: 256 * mebibyte, concurrency });

  test('are as large as was asked for where a few connections share the memory, and smaller where many do', () => {
    const sizes = [1, 5, 8, 16, 256].map((concurrency) => partSizeFor(1e9, cut(concurrency), limits) / mebibyte);
    expect(sizes).toEqual([16, 16, 10, 5, 5]);
    for (const concurrency of [1, 8, 16]) {
      const buffers = bufferBytes(256 * mebibyte, concurrency) / partSizeFor(1e9, cut(concurrency), limits);
      expect(Math.floor(buffers)).toBeGreaterThanOrEqual(Math.min(5, concurrency));
      if (concurrency > 5) expect(Math.floor(buffers)).toBeGreaterThanOrEqual(concurrency);
    }
  });

  test('fit into 10,000 for a file of 500 GB, and are never under the least that S3 takes', () => {
    for (const concurrency of [1, 16]) expect(Math.ceil(500e9 / partSizeFor(500e9, cut(concurrency), limits))).toBeLessThanOrEqual(10_000);
    expect(partSizeFor(1e9, cut(8, 1), limits)).toBe(limits.minPart);
  });

  test('are none where one request may take all, however many connections there are', () => {
    for (const concurrency of [1, 64]) expect(partSizeFor(16 * mebibyte, cut(concurrency), limits)).toBe(16 * mebibyte);
    expect(partSizeFor(16 * mebibyte + 1, cut(64), limits)).toBe(limits.minPart);
  });
});

/** What a run that was killed leaves: a claim, an upload of other bytes that it names, and one that it had no time to name. */
async function leaveClaim({ ageMs, unnamed = false }: { ageMs: number; unnamed?: boolean }): Promise<string> {
  const { store } = optionsFor({});
  const runId = randomUUID();
  const key = `${prefix}/model.safetensors`;
  const { uploadId } = await store.beginMultipart(key, { size: 1, partSize });
  if (unnamed) await store.beginMultipart(key, { size: 1, partSize });
  const record = {
    schemaVersion: 1,
    runId,
    holder: 'dead',
    contentDigest: 'x',
    since: new Date(Date.now() - 10_000).toISOString(),
    released: false,
    keys: [key],
    uploads: { [key]: { uploadId, digest: `sha256:${'f'.repeat(64)}`, partSize } },
  };
  await store.put(claimKey, Buffer.from(JSON.stringify(record)));
  const object = server.object(bucket, claimKey);
  if (object) object.lastModified = new Date(Date.now() - ageMs);
  return runId;
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}
