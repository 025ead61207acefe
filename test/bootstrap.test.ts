import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  GetBucketEncryptionCommand,
  GetBucketLifecycleConfigurationCommand,
  GetBucketVersioningCommand,
  GetPublicAccessBlockCommand,
  PutBucketEncryptionCommand,
  PutBucketLifecycleConfigurationCommand,
} from '@aws-sdk/client-s3';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { bootstrap } from '../tasks/bootstrap/step.ts';
import { FakeHub } from './fakes/hub.ts';
import { tinyLlama } from './fakes/model.ts';
import { Program, runInProcess } from './fakes/program.ts';
import { FakeRegistry } from './fakes/registry.ts';
import { FakeS3, type FakeS3Options, s3Answer } from './fakes/s3.ts';
import { clientOf } from './fakes/s3-client.ts';

let s3: FakeS3;
let env: Record<string, string>;
async function start(options: FakeS3Options = {}): Promise<void> {
  await s3?.close();
  s3 = new FakeS3(options);
  await s3.listen();
  env = {
    S3_BUCKET: 'models',
    S3_ENDPOINT: s3.origin,
    AWS_ACCESS_KEY_ID: s3.credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: s3.credentials.secretAccessKey,
    STALL_TIMEOUT: '10s',
    RETRIES: '1',
  };
}
beforeEach(async () => await start());
afterEach(async () => await s3.close());

const run = (...argv: string[]) => runInProcess(bootstrap, argv, env);
const changes = () => s3.requests.filter(({ method }) => !['GET', 'HEAD'].includes(method)).map(({ method, url }) => `${method} ${url}`);
const bucket = { Bucket: 'models' };
const rules = async () => (await clientOf(s3).send(new GetBucketLifecycleConfigurationCommand(bucket))).Rules ?? [];
const fresh = {
  bucket: 'done',
  'public-access-block': 'done',
  encryption: 'done',
  versioning: 'done',
  'old-versions': 'done',
  'unfinished-uploads': 'done',
};
const all = (value: string) => Object.fromEntries(Object.keys(fresh).map((name) => [name, value]));

describe('bootstrap', () => {
  test('makes a bucket with all that is asked for, and the second run changes nothing', async () => {
    const first = await new Program('bootstrap', [], env).ended;
    expect(first.exitCode, first.stderr).toBe(0);
    expect(JSON.parse(first.stdout)).toEqual({ ...fresh, 'model-count': '0' });
    const client = clientOf(s3);
    expect((await client.send(new GetBucketVersioningCommand(bucket))).Status).toBe('Enabled');
    const encryption = await client.send(new GetBucketEncryptionCommand(bucket));
    expect(encryption.ServerSideEncryptionConfiguration?.Rules?.[0]?.ApplyServerSideEncryptionByDefault).toEqual({
      SSEAlgorithm: 'AES256',
    });
    expect((await client.send(new GetPublicAccessBlockCommand(bucket))).PublicAccessBlockConfiguration).toEqual({
      BlockPublicAcls: true,
      IgnorePublicAcls: true,
      BlockPublicPolicy: true,
      RestrictPublicBuckets: true,
    });
    expect(
      (await rules()).map(({ Filter, NoncurrentVersionExpiration, AbortIncompleteMultipartUpload }) => [
        Filter?.Prefix,
        NoncurrentVersionExpiration?.NoncurrentDays ?? AbortIncompleteMultipartUpload?.DaysAfterInitiation,
      ]),
    ).toEqual([
      ['model-data/', 30],
      ['.modelferry/', 30],
      ['model-data/', 7],
      ['.modelferry/', 7],
    ]);
    s3.requests.length = 0;
    const second = await run();
    expect(second.results).toEqual({ ...all('already'), 'model-count': '0' });
    expect(changes()).toEqual([]);
  });

  test("leaves others' rules and a key of somebody's choice, and changes what is asked for by name", async () => {
    s3.createBucket('models');
    const client = clientOf(s3);
    const theirs = { ID: 'theirs', Status: 'Enabled' as const, Expiration: { Days: 3 } };
    // In the older form, which S3 does not take beside the newer one.
    const older = { ...theirs, Prefix: 'logs/' };
    await client.send(new PutBucketLifecycleConfigurationCommand({ ...bucket, LifecycleConfiguration: { Rules: [older] } }));
    const Rules = [{ ApplyServerSideEncryptionByDefault: { SSEAlgorithm: 'aws:kms' as const, KMSMasterKeyID: 'alias/ours' } }];
    await client.send(new PutBucketEncryptionCommand({ ...bucket, ServerSideEncryptionConfiguration: { Rules } }));
    expect((await run()).results).toEqual({ ...fresh, bucket: 'already', encryption: 'already', 'model-count': '0' });
    expect(await rules()).toContainEqual({ ...theirs, Filter: { Prefix: 'logs/' } });
    const other = await run('--expire-old-versions-days=90', '--abort-uploads-days=0', '--s3-sse=AES256');
    expect(other.results).toMatchObject({ encryption: 'done', 'old-versions': 'done', 'unfinished-uploads': 'done' });
    expect((await rules()).map(({ ID }) => ID)).toEqual([
      'theirs',
      'modelferry-old-versions:model-data/',
      'modelferry-old-versions:.modelferry/',
    ]);
    expect((await rules())[1]?.NoncurrentVersionExpiration).toEqual({ NoncurrentDays: 90 });
  });

  const verbs = ['PutPublicAccessBlock', 'PutBucketEncryption', 'PutBucketVersioning', 'PutBucketLifecycleConfiguration'] as const;
  test('a store that has none of it: told, and no failure, whether it says so, takes it for another request, or pretends', async () => {
    const none = { ...all('not-supported'), bucket: 'done', 'model-count': '0' };
    await start({ notImplemented: [...verbs, 'GetPublicAccessBlock', 'GetBucketEncryption', 'GetBucketLifecycleConfiguration'] });
    const refused = await run();
    expect(refused.exitCode, refused.stderr).toBe(0);
    expect(refused.results).toEqual(none);
    expect(s3.seen(/publicAccessBlock/).length, 'what is not there is asked for once').toBe(1);
    await start({ pretends: verbs });
    expect((await run()).results).toEqual(none);
    await start();
    s3.fail({ on: /^PUT \/models\/?\?/, times: 99, answer: s3Answer('BucketAlreadyOwnedByYou') });
    expect((await run()).results).toEqual(none);
  });

  test('a store with half of it: only that is missing (no rules for uploads; no new checksums, but MD5)', async () => {
    await start({ abortRules: 'refused', checksums: 'ignored' });
    expect((await run()).results).toEqual({ ...fresh, 'unfinished-uploads': 'not-supported', 'model-count': '0' });
  });

  test('what is denied is told at the end, when the rest is done: exit code 4', async () => {
    await start({ deny: (verb) => verb === 'PutBucketEncryption' });
    const denied = await run();
    expect(denied.exitCode).toBe(4);
    expect(s3.buckets.get('models')?.versioning).toBe('Enabled');
    expect((await rules()).length).toBe(4);
  });

  test("another's bucket is denied, and a passing fault is tried again", async () => {
    s3.fail({ on: /^PUT \/models/, answer: s3Answer('SlowDown') });
    s3.fail({ on: /^PUT \/models/, answer: s3Answer('BucketAlreadyExists') });
    const { exitCode, stderr } = await run();
    expect(exitCode).toBe(4);
    expect(stderr).toContain('somebody else');
  });

  test('a dry run looks only', async () => {
    const { exitCode, stdout } = await run('--dry-run=true');
    expect(exitCode).toBe(0);
    expect(JSON.parse(stdout)).toEqual(all('wanted'));
    s3.createBucket('models', { versioning: true });
    expect(JSON.parse((await run('--dry-run=true')).stdout)).toEqual({ ...all('wanted'), bucket: 'already', versioning: 'already' });
    expect(changes()).toEqual([]);
  });
});

describe('bootstrap --models-file', () => {
  let hub: FakeHub;
  let dir: string;
  let list: string;
  beforeEach(async () => {
    hub = new FakeHub();
    await hub.listen();
    hub.addRepo({ id: 'acme/one', files: tinyLlama() });
    hub.addRepo({ id: 'acme/two', files: tinyLlama({ seed: 2 }) });
    dir = await mkdtemp(join(tmpdir(), 'bootstrap-'));
    list = join(dir, 'models');
    env.HF_ENDPOINT = hub.origin;
  });
  afterEach(async () => {
    await hub.close();
    await rm(dir, { recursive: true });
  });
  const published = () => s3.keys('models', '.modelferry/manifests/');

  test('brings the models of the list and registers them; again, nothing is sent', async () => {
    const registry = new FakeRegistry();
    await registry.listen();
    try {
      await writeFile(list, '# ours\nacme/one@main  # the first\n\nacme/two\n');
      const argv = [`--models-file=${list}`, '--key-template=models/{name}', `--model-registry-url=${registry.origin}`];
      const { exitCode, stderr, results } = await run(...argv);
      expect(exitCode, stderr).toBe(0);
      expect(results['model-count']).toBe('2');
      expect(published()).toEqual(['.modelferry/manifests/models/one.json', '.modelferry/manifests/models/two.json']);
      expect((await rules()).map(({ Filter }) => Filter?.Prefix)).toContain('models/');
      expect(registry.requests.filter(({ method, url }) => method === 'POST' && url.endsWith('/registered_models')).length).toBe(2);
      s3.requests.length = 0;
      expect((await run(...argv)).exitCode).toBe(0);
      expect(changes().filter((each) => !each.includes('.modelferry/probe'))).toEqual([]);
    } finally {
      await registry.close();
    }
  });

  test('makes them smaller on the way when told to, and registers what was made', async () => {
    const registry = await new FakeRegistry().listen();
    try {
      await writeFile(list, 'acme/one\n');
      const { exitCode, stderr } = await run(`--models-file=${list}`, '--method=w8a8', `--model-registry-url=${registry.origin}`);
      expect(exitCode, stderr).toBe(0);
      expect(published()).toEqual([expect.stringMatching(/\/one\/[0-9a-f]{12}-w8a8\.json$/)]);
      const artifacts = await (await fetch(`${registry.origin}/api/model_registry/v1alpha3/model_artifacts`)).json();
      expect(JSON.stringify(artifacts)).toContain('"modelferry.method":{"metadataType":"MetadataStringValue","string_value":"w8a8"}');
    } finally {
      await registry.close();
    }
  });

  test('JSON entries have the flags of an import; one that fails does not stop the others, and its code is the end', async () => {
    await writeFile(
      list,
      JSON.stringify(['acme/nothing-there', { 'model-id': 'acme/two', 'model-name': 'second', 'model-version': 'v1' }]),
    );
    const { exitCode, stderr } = await run(`--models-file=${list}`);
    expect(exitCode).toBe(3);
    expect(stderr).toContain('failed to bring 1 of 2 models');
    expect(published()).toEqual(['.modelferry/manifests/model-data/second/v1.json']);
  });

  test('every fault of the list is told before anything is made', async () => {
    await writeFile(list, JSON.stringify(['no name', { 'model-id': 'acme/one', colour: 'red' }, 7]));
    const { exitCode, stderr } = await run(`--models-file=${list}`);
    expect(exitCode).toBe(2);
    for (const fault of ['entry 1', 'unknown flag --colour', 'entry 3']) expect(stderr).toContain(fault);
    expect(s3.requests).toEqual([]);
  });
});
