import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, beforeAll } from 'vitest';
import { FolderStore } from '../lib/folder-store/store.ts';
import { schema } from '../lib/params/declare.ts';
import { s3Params } from '../lib/params/groups.ts';
import { readParams } from '../lib/params/read.ts';
import { S3Connection } from '../lib/s3/connection.ts';
import { S3Store } from '../lib/s3/store.ts';
import { s3Settings } from '../lib/s3-settings.ts';
import { FakeS3, type FakeS3Options } from './fakes/s3.ts';
import { storeContract } from './store-contract.ts';

const log = pino({ level: 'silent' });

function s3Store(env: Record<string, string>): S3Store {
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

/** The embedded S3 as AWS is today, and as stores that know no checksums are. */
const dialects: Record<string, FakeS3Options> = {
  'S3 with checksums': { pageSize: 10 },
  'S3 without checksums': { checksums: 'ignored', pageSize: 10 },
};
for (const [name, options] of Object.entries(dialects)) {
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
    return { store: s3Store(env), root: 'models' };
  });
}

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
