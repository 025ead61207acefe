import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { FolderStore } from '../lib/folder-store/store.ts';
import { schema } from '../lib/params/declare.ts';
import { s3Params } from '../lib/params/groups/store.ts';
import { readParams } from '../lib/params/read.ts';
import { S3Connection } from '../lib/s3/connection.ts';
import { S3Store, s3Limits } from '../lib/s3/store.ts';
import { s3Settings } from '../lib/s3-settings.ts';
import type { StoreLimits } from '../lib/store.ts';
import { FakeS3, type FakeS3Options } from './fakes/s3.ts';
import { storeContract } from './store-contract.ts';

const log = pino({ level: 'silent' });
const MiB = 1024 ** 2;

function s3Store(env: Record<string, string>, limits?: StoreLimits): S3Store {
  const { values } = readParams(schema(s3Params), { argv: [], env });
  return new S3Store(
    new S3Connection({
      settings: s3Settings(values),
      checksum: values.s3Checksum,
      retries: 2,
      stallTimeout: 10_000,
      signal: new AbortController().signal,
      log,
    }),
    limits,
  );
}

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'store-'));
});
afterAll(async () => {
  await rm(folder, { recursive: true });
});
storeContract('a folder', async () => ({ store: new FolderStore(join(folder, randomUUID()), '.modelferry'), root: 'models' }));

/** The embedded S3 as AWS is today, and as others are. */
const dialects: Record<string, FakeS3Options & { limits?: StoreLimits }> = {
  'S3 with checksums': { pageSize: 10 },
  'S3 as Ceph is': { checksums: 'ignored', conditionalWrites: 'ceph', pageSize: 10 },
  'S3 without checksums': { checksums: 'ignored', pageSize: 10 },
  // Its 6 MiB are the 5 GiB of S3: what is larger is put and copied in parts.
  'S3 with small limits': {
    maxPutSize: 6 * MiB,
    pageSize: 10,
    limits: { ...s3Limits, maxPut: 6 * MiB, maxCopy: 6 * MiB, maxPart: 6 * MiB },
  },
};
for (const [name, { limits, ...options }] of Object.entries(dialects)) {
  const server = new FakeS3(options);
  beforeAll(async () => {
    await server.listen();
  });
  afterAll(() => server.close());
  storeContract(name, async () => {
    const bucket = `b-${randomUUID()}`;
    server.createBucket(bucket);
    const { accessKeyId, secretAccessKey } = server.credentials;
    const env = { S3_BUCKET: bucket, S3_ENDPOINT: server.origin, S3_ACCESS_KEY_ID: accessKeyId, S3_SECRET_ACCESS_KEY: secretAccessKey };
    return { store: s3Store(env, limits), root: 'models' };
  });
}

test('a copy in parts asks for encryption, class and tags, and pins every part by the ETag of its source', async () => {
  const server = await new FakeS3({ maxPutSize: 6 * MiB }).listen();
  try {
    server.createBucket('models');
    const { accessKeyId, secretAccessKey } = server.credentials;
    const own = { S3_SSE: 'aws:kms', S3_STORAGE_CLASS: 'STANDARD_IA', S3_TAGS: 'team=ml' };
    const env = { S3_BUCKET: 'models', S3_ENDPOINT: server.origin, S3_ACCESS_KEY_ID: accessKeyId, S3_SECRET_ACCESS_KEY: secretAccessKey };
    const source = server.put('models', 'a/large', Buffer.alloc(14 * MiB, 'x'));
    const store = s3Store({ ...env, ...own }, { ...s3Limits, maxCopy: 6 * MiB });
    const { size, etag, lastModified } = source;
    await store.copy({ key: 'a/large', size, etag: etag.replaceAll('"', ''), lastModified }, 'b/large', { 'modelferry-sha256': 'x' });
    const asked = server
      .seen(/^PUT .*partNumber/)
      .map(({ headers }) => [headers['x-amz-copy-source-range'], headers['x-amz-copy-source-if-match']]);
    expect(asked.sort()).toEqual([
      [`bytes=0-${6 * MiB - 1}`, etag],
      [`bytes=${12 * MiB}-${14 * MiB - 1}`, etag],
      [`bytes=${6 * MiB}-${12 * MiB - 1}`, etag],
    ]);
    const copied = server.object('models', 'b/large');
    expect(copied?.size).toBe(size);
    expect(copied).toMatchObject({
      storageClass: 'STANDARD_IA',
      tags: { team: 'ml' },
      metadata: { 'modelferry-sha256': 'x' },
      encryption: { algorithm: 'aws:kms' },
    });
  } finally {
    await server.close();
  }
});

test('copies in parts where the store tells no checksum of a part that it copied', async () => {
  const server = await new FakeS3({ discard: true }).listen();
  try {
    server.createBucket('models');
    const { accessKeyId, secretAccessKey } = server.credentials;
    const keys = { S3_BUCKET: 'models', S3_ENDPOINT: server.origin, S3_ACCESS_KEY_ID: accessKeyId, S3_SECRET_ACCESS_KEY: secretAccessKey };
    const store = s3Store({ ...keys, S3_CHECKSUM: 'crc32' }, { ...s3Limits, maxCopy: 6 * MiB });
    const bytes = Buffer.alloc(5 * MiB, 'x');
    const upload = await store.beginMultipart('a', { size: 10 * MiB, partSize: 5 * MiB });
    const parts = [await store.uploadPart(upload, 1, bytes), await store.uploadPart(upload, 2, bytes)];
    await store.copy(await store.completeMultipart(upload, parts, 10 * MiB), 'b', {});
    expect(server.object('models', 'b')?.size).toBe(10 * MiB);
  } finally {
    await server.close();
  }
});

test('a model’s file is of one type, whether it was put, sent in parts or copied', async () => {
  const server = await new FakeS3().listen();
  try {
    server.createBucket('models');
    const { accessKeyId, secretAccessKey } = server.credentials;
    const keys = { S3_BUCKET: 'models', S3_ENDPOINT: server.origin, S3_ACCESS_KEY_ID: accessKeyId, S3_SECRET_ACCESS_KEY: secretAccessKey };
    const types = new Map<string, string | undefined>();
    for (const checksum of ['crc32', 'sha256']) {
      const store = s3Store({ ...keys, S3_CHECKSUM: checksum }, { ...s3Limits, maxCopy: 6 * MiB });
      await store.head('nothing');
      const bytes = Buffer.alloc(5 * MiB, 'x');
      const put = await store.put(`${checksum}/put`, bytes, { model: true });
      const upload = await store.beginMultipart(`${checksum}/parts`, { size: 7 * MiB, partSize: 5 * MiB });
      const parts = [await store.uploadPart(upload, 1, bytes), await store.uploadPart(upload, 2, bytes.subarray(3 * MiB))];
      const large = await store.completeMultipart(upload, parts, 7 * MiB);
      await store.copy(put, `${checksum}/copy`, {});
      await store.copy(large, `${checksum}/copy-in-parts`, {});
      for (const key of server.keys('models', checksum)) types.set(key, server.object('models', key)?.headers['content-type']);
    }
    expect(types.size).toBe(8);
    expect(new Set(types.values())).toEqual(new Set(['application/octet-stream']));
  } finally {
    await server.close();
  }
});

test('a put and a part by the short way ask for what the SDK asks for', async () => {
  const server = await new FakeS3().listen();
  try {
    server.createBucket('models');
    const { accessKeyId, secretAccessKey } = server.credentials;
    const own = { S3_SSE: 'aws:kms', S3_KMS_KEY_ID: 'key/1', S3_STORAGE_CLASS: 'STANDARD_IA', S3_TAGS: 'team=ml' };
    const keys = { S3_BUCKET: 'models', S3_ENDPOINT: server.origin, S3_ACCESS_KEY_ID: accessKeyId, S3_SECRET_ACCESS_KEY: secretAccessKey };
    const asked = async (checksum: string) => {
      const store = s3Store({ ...keys, ...own, S3_CHECKSUM: checksum });
      // Where the SDK goes is known from its first request on.
      await store.head('a/nothing');
      const from = server.requests.length;
      const metadata = { 'modelferry-sha256': 'x', 'Modelferry-Size': '3' };
      await store.put(`a/b c+d(1)!'*~/ä€.json`, Buffer.from('abc'), { condition: { absent: true } });
      await store.put('a/model.safetensors', Buffer.from('abc'), { metadata, model: true });
      const upload = await store.beginMultipart('a/large', { size: 5, partSize: 5, metadata });
      await store.uploadPart(upload, 1, Buffer.from('abcde'));
      await store.delete([`a/b c+d(1)!'*~/ä€.json`]);
      return server.requests.slice(from).filter(({ method }) => method === 'PUT');
    };
    const [quick, long] = [await asked('crc32'), await asked('sha256')];
    expect(quick.map(({ headers }) => headers['user-agent'])).toEqual(quick.map(() => expect.stringMatching(/^modelferry\//)));
    expect(long.map(({ headers }) => headers['user-agent'])).toEqual(long.map(() => expect.stringContaining('aws-sdk-js')));
    // What only the SDK tells of itself, and what is another in each request.
    const beside = /^(authorization|x-amz-date|x-amz-content-sha256|x-amz-checksum-crc32|(x-amz-)?user-agent|amz-sdk-.*)$/;
    const shown = (requests: typeof quick) =>
      requests.map(({ url, headers }) => [
        url.replace(/uploadId=[^&]*/, 'uploadId='),
        Object.fromEntries(Object.entries(headers).filter(([name]) => !beside.test(name))),
      ]);
    expect(quick).toHaveLength(3);
    expect(shown(quick)).toEqual(
      shown(long).map(([url, headers]) => [url?.toString().replace('&x-id=UploadPart', '').replace('?x-id=PutObject', ''), headers]),
    );
  } finally {
    await server.close();
  }
});

/** Any real S3: TEST_S3_ENDPOINT, TEST_S3_BUCKET and the AWS chain. */
const { TEST_S3_ENDPOINT, TEST_S3_BUCKET, TEST_S3_ACCESS_KEY_ID, TEST_S3_SECRET_ACCESS_KEY } = process.env;
if (TEST_S3_ENDPOINT && TEST_S3_BUCKET) {
  storeContract(`S3 at ${TEST_S3_ENDPOINT}`, async () => {
    const env = {
      S3_BUCKET: TEST_S3_BUCKET,
      S3_ENDPOINT: TEST_S3_ENDPOINT,
      S3_ACCESS_KEY_ID: TEST_S3_ACCESS_KEY_ID ?? '',
      S3_SECRET_ACCESS_KEY: TEST_S3_SECRET_ACCESS_KEY ?? '',
    };
    return { store: s3Store(env), root: `contract-${randomUUID()}` };
  });
}
