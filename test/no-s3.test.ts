import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { kindOf, messageOf } from '../lib/errors.ts';
import { createLog, Redactor } from '../lib/log.ts';
import { closeNetwork } from '../lib/network.ts';
import { schema } from '../lib/params/declare.ts';
import { s3Params } from '../lib/params/groups/store.ts';
import { readParams } from '../lib/params/read.ts';
import { BucketSettings } from '../lib/s3/bucket.ts';
import { S3Connection } from '../lib/s3/connection.ts';
import { S3Store } from '../lib/s3/store.ts';
import { s3Get } from '../lib/s3-get.ts';
import { s3Settings } from '../lib/s3-settings.ts';
import { sync } from '../tasks/sync/step.ts';
import { FakeHub } from './fakes/hub.ts';
import { tinyLlama } from './fakes/model.ts';
import { runInProcess } from './fakes/program.ts';
import { FakeS3, s3Answer } from './fakes/s3.ts';

const s3 = new FakeS3();
beforeAll(async () => {
  await s3.listen();
  s3.createBucket('models');
  s3.put('models', 'a/b', 'hello', { headers: { 'content-type': 'text/html' } });
});
afterEach(() => s3.clearFaults());
afterAll(async () => {
  await s3.close();
  closeNetwork();
});

const log = createLog({ level: 'silent', format: 'json', redactor: new Redactor(), write: () => {} });
const env = () => ({
  S3_BUCKET: 'models',
  S3_ENDPOINT: s3.origin,
  S3_ACCESS_KEY_ID: s3.credentials.accessKeyId,
  S3_SECRET_ACCESS_KEY: s3.credentials.secretAccessKey,
});
const options = () => {
  const settings = s3Settings(readParams(schema(s3Params), { argv: [], env: env() }).values);
  return { settings, retries: 0, stallTimeout: 5_000, signal: new AbortController().signal, log };
};
const connection = () => new S3Connection({ ...options(), checksum: 'auto' });
const storeOf = () => new S3Store(connection());

const upload = { key: 'a/b', uploadId: 'id' };
const calls: Record<string, (store: S3Store) => Promise<unknown>> = {
  PutObject: (store) => store.put('a/c', Buffer.from('x')),
  GetObject: (store) => store.get('a/b'),
  HeadObject: (store) => store.head('a/b'),
  ListObjectsV2: async (store) => {
    for await (const _ of store.list('a/')) return;
  },
  CopyObject: (store) => store.copy({ key: 'a/b', size: 5, etag: 'x', lastModified: new Date() }, 'a/d', {}),
  CreateMultipartUpload: (store) => store.beginMultipart('a/b', { size: 5, partSize: 5 }),
  UploadPart: (store) => store.uploadPart(upload, 1, Buffer.from('x')),
  ListParts: (store) => store.listParts(upload),
  ListMultipartUploads: (store) => store.listMultiparts('a/'),
  CompleteMultipartUpload: (store) => store.completeMultipart(upload, [{ number: 1, etag: 'x' }], 5),
  'a bare GET': () => s3Get('a/b', options()),
};
const page = '<!DOCTYPE html><html><head><title>Sign in</title></head><body>Sign in</body></html>';
const pages = {
  'a login page': { status: 200, headers: { 'content-type': 'text/html', etag: '"5f-1"' }, body: page },
  'a page that says nothing of itself': { status: 200, body: page },
  'an empty body': { status: 200 },
  'JSON of something else': { status: 200, headers: { 'content-type': 'application/json' }, body: '{"ok":true}' },
};

describe.each(Object.entries(pages))('a server that answers everything by %s', (_, answer) => {
  test.each(Object.keys(calls))('is no S3: %s', async (name) => {
    s3.fail({ on: /./, times: 99, answer });
    // To S3 itself an empty answer to a completion or copy is an InternalError that came too late for another status.
    if (/^(CompleteMultipartUpload|CopyObject)$/.test(name) && !('body' in answer)) return;
    const error = await calls[name]?.(storeOf()).then(
      () => 'no error',
      (thrown: unknown) => thrown,
    );
    expect([kindOf(error), messageOf(error)]).toEqual([
      'usage',
      expect.stringMatching(/^failed to .*: http:\/\/127.*is no S3: it answers 200 with /),
    ]);
  });
});

test('a page in the middle of a run may pass: the store was an S3 a moment ago', async () => {
  const store = storeOf();
  await store.put('a/c', Buffer.from('x'));
  s3.fail({ on: /./, times: 9, answer: pages['a login page'] });
  await expect(store.head('a/b')).rejects.toMatchObject({ kind: 'transient', message: expect.stringContaining('no S3') });
});

test('an object that is a page itself is one, and a sync into something that is no S3 says so', async () => {
  const hub = await new FakeHub().listen();
  hub.addRepo({ id: 'acme/tiny', files: tinyLlama() });
  expect(await storeOf().head('a/b')).toMatchObject({ size: 5 });
  expect(String((await storeOf().get('a/b'))?.bytes)).toBe('hello');
  s3.fail({ on: /./, times: 99, answer: pages['a login page'] });
  const { exitCode, stderr } = await runInProcess(sync, ['--model-id', 'acme/tiny', '--hub-url', hub.origin], env());
  await hub.close();
  expect([exitCode, stderr]).toEqual([2, expect.stringContaining('is no S3: it answers 200 with text/html')]);
  expect(stderr).toContain('check --s3-endpoint-url');
});

describe('HEAD carries no body: why it is refused is asked by a GET', () => {
  test.each([
    ['ExpiredToken', 400],
    ['InvalidToken', 400],
    ['RequestTimeTooSkewed', 403],
    ['SignatureDoesNotMatch', 403],
    ['AccessDenied', 403],
  ])('%s (%i) is denied', async (code, status) => {
    s3.fail({
      on: /./,
      times: 9,
      answer: { ...s3Answer('AccessDenied'), status, body: `<Error><Code>${code}</Code><Message>no</Message></Error>` },
    });
    const denied = { kind: 'denied', message: expect.stringContaining(`${code} (${status})`) };
    await expect(storeOf().head('a/b')).rejects.toMatchObject(denied);
    await expect(new BucketSettings(connection()).create()).rejects.toMatchObject(denied);
  });

  test('what GET gives is taken where HEAD alone is refused', async () => {
    s3.fail({ on: /^HEAD/, times: 99, answer: { status: 403 } });
    const { etag } = s3.object('models', 'a/b') ?? {};
    expect(await storeOf().head('a/b')).toMatchObject({ key: 'a/b', size: 5, etag: etag?.replaceAll('"', '') });
    expect(await storeOf().head('a/none')).toBeUndefined();
    s3.put('models', 'a/empty', '');
    expect(await storeOf().head('a/empty')).toMatchObject({ size: 0 });
    expect(await new BucketSettings(connection()).create()).toBe('already');
  });
});
