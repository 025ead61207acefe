import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createLog, Redactor } from '../lib/log.ts';
import { closeNetwork } from '../lib/network.ts';
import { schema } from '../lib/params/declare.ts';
import { s3Params } from '../lib/params/groups/store.ts';
import { readParams } from '../lib/params/read.ts';
import { S3Connection } from '../lib/s3/connection.ts';
import { S3Store } from '../lib/s3/store.ts';
import { objectUrl, s3Get, s3GetRange } from '../lib/s3-get.ts';
import { type S3Settings, s3Settings } from '../lib/s3-settings.ts';
import { FakeS3, s3Answer } from './fakes/s3.ts';
import { FakeServer } from './fakes/server.ts';

const log = createLog({ level: 'silent', format: 'json', redactor: new Redactor(), write: () => {} });
const common = { retries: 2, stallTimeout: 5_000, signal: new AbortController().signal, log };
const settingsOf = (env: Record<string, string>) => s3Settings(readParams(schema(s3Params), { argv: [], env }).values);
const get = (key: string, env: Record<string, string>) => s3Get(key, { ...common, settings: settingsOf(env) });

const fake = new FakeS3();
beforeAll(async () => {
  await fake.listen();
  fake.createBucket('models');
});
afterAll(async () => {
  await fake.close();
  closeNetwork();
});
const fakeEnv = () => ({
  S3_BUCKET: 'models',
  S3_ENDPOINT: fake.origin,
  S3_ACCESS_KEY_ID: fake.credentials.accessKeyId,
  S3_SECRET_ACCESS_KEY: fake.credentials.secretAccessKey,
});

const { TEST_S3_ENDPOINT, TEST_S3_BUCKET, TEST_S3_ACCESS_KEY_ID = '', TEST_S3_SECRET_ACCESS_KEY = '' } = process.env;
const stores: [string, () => Record<string, string>][] = [['the fake', fakeEnv]];
if (TEST_S3_ENDPOINT && TEST_S3_BUCKET) {
  const keys = { S3_ACCESS_KEY_ID: TEST_S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY: TEST_S3_SECRET_ACCESS_KEY };
  stores.push([TEST_S3_ENDPOINT, () => ({ S3_BUCKET: TEST_S3_BUCKET, S3_ENDPOINT: TEST_S3_ENDPOINT, ...keys })]);
}

describe.each(stores)('one signed GET at %s', (_, env) => {
  test('brings what the SDK put, under keys of every kind', async () => {
    const store = new S3Store(new S3Connection({ ...common, settings: settingsOf(env()), checksum: 'auto' }));
    const root = `get-${randomUUID()}`;
    for (const name of ['plain.json', 'with space.json', "a+b&c=d,e;f:g@h$i!(j)*'k~.json", 'ümlaut/日本.json', '100%.json', 'a//b']) {
      await store.put(`${root}/${name}`, Buffer.from(name));
      expect((await get(`${root}/${name}`, env()))?.toString()).toBe(name);
    }
    for await (const { key } of store.list(root)) await store.delete([key]);
  });

  test('is undefined for what is not there', async () => {
    expect(await get(`get-${randomUUID()}`, env())).toBeUndefined();
  });

  test('is not-found for a bucket that is not there, and denied for a wrong key', async () => {
    await expect(get('x', { ...env(), S3_BUCKET: `no-${randomUUID()}` })).rejects.toMatchObject({ kind: 'not-found' });
    const wrong = get('x', { ...env(), S3_SECRET_ACCESS_KEY: 'wrong-secret' });
    await expect(wrong).rejects.toMatchObject({ kind: 'denied', message: expect.not.stringContaining('wrong-secret') });
  });
});

describe('a store that goes wrong', () => {
  test('is asked again while it may pass, and not when it will not', async () => {
    const before = fake.requests.length;
    fake.fail({ on: /GET .*\/again/, times: 2, answer: s3Answer('SlowDown') });
    expect(await get('again', fakeEnv())).toBeUndefined();
    expect(fake.requests.length - before).toBe(3);
    fake.fail({ on: /GET .*\/denied/, times: 9, answer: s3Answer('AccessDenied') });
    await expect(get('denied', fakeEnv())).rejects.toMatchObject({
      kind: 'denied',
      message: expect.stringContaining('AccessDenied (403)'),
    });
    expect(fake.seen(/denied/)).toHaveLength(1);
  });

  test('and has another clock is asked by its own, once for all that follows', async () => {
    const ahead = await new FakeS3({ clockAheadMs: 3_600_000, maxClockSkewMs: 900_000 }).listen();
    ahead.createBucket('models');
    const settings = settingsOf({ ...fakeEnv(), S3_ENDPOINT: ahead.origin });
    expect(await s3Get('x', { ...common, retries: 0, settings })).toBeUndefined();
    const range = s3GetRange('x', 0, Buffer.alloc(4), { ...common, retries: 0, settings });
    await expect(range).rejects.toMatchObject({ kind: 'not-found' });
    // Two for the first read; a range that is refused is asked for again for the words of the answer.
    expect(ahead.seen(/GET/)).toHaveLength(4);
    await ahead.close();
  });

  test('that has another clock at every answer is not asked for ever', async () => {
    fake.fail({ on: /GET .*\/skewed/, times: 9, answer: s3Answer('RequestTimeTooSkewed') });
    await expect(get('skewed', fakeEnv())).rejects.toMatchObject({ kind: 'denied', hint: expect.stringContaining('clock') });
    expect(fake.seen(/skewed/)).toHaveLength(1);
  });

  test('that is none is told so', async () => {
    const page = await new FakeServer(async (_, response) => {
      response.writeHead(404, { 'content-type': 'text/html' }).end('<html>not found</html>');
    }).listen();
    const failing = get('x', { ...fakeEnv(), S3_ENDPOINT: page.origin });
    await expect(failing).rejects.toMatchObject({ kind: 'not-found', hint: expect.stringContaining('--s3-endpoint-url') });
    await page.close();
  });
});

test.each<[string, Partial<S3Settings>, string]>([
  ['AWS', {}, 'https://models.s3.eu-west-1.amazonaws.com/a%20b/c'],
  ['AWS with dots in the bucket', { pathStyle: true }, 'https://s3.eu-west-1.amazonaws.com/models/a%20b/c'],
  ['an endpoint', { endpoint: 'http://minio:9000', pathStyle: true }, 'http://minio:9000/models/a%20b/c'],
  ['an endpoint below a path', { endpoint: 'https://gw/s3', pathStyle: true }, 'https://gw/s3/models/a%20b/c'],
  ['an endpoint with host names', { endpoint: 'https://ceph:8443' }, 'https://models.ceph:8443/a%20b/c'],
])('address at %s', (_, more, url) => {
  expect(objectUrl('a b/c', { ...settingsOf({ S3_BUCKET: 'models' }), ...more }, 'eu-west-1').href).toBe(url);
});
