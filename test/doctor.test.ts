import { lookup } from 'node:dns/promises';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { doctor } from '../tasks/doctor/step.ts';
import { makeCertificate } from './fakes/certificate.ts';
import { Program, runInProcess, until } from './fakes/program.ts';
import { FakeS3, type FakeS3Options, s3Answer } from './fakes/s3.ts';

const certificate = makeCertificate();

let s3: FakeS3;
let env: Record<string, string>;
async function start(options: FakeS3Options = {}): Promise<void> {
  await s3?.close();
  s3 = new FakeS3(options);
  await s3.listen();
  s3.createBucket('models');
  env = {
    S3_BUCKET: 'models',
    S3_ENDPOINT: s3.origin,
    AWS_ACCESS_KEY_ID: s3.credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: s3.credentials.secretAccessKey,
  };
}
beforeEach(async () => await start());
afterEach(async () => await s3.close());

interface Report {
  region: string;
  pathStyle: boolean;
  checks: { check: string; verdict: string; detail?: string }[];
  settings: {
    modelferry: Record<string, string>;
    kserve: { metadata: { annotations: Record<string, string> } };
    vllm: Record<string, string>;
  };
}
async function ask(...argv: string[]) {
  const { exitCode, stdout, stderr } = await runInProcess(doctor, argv, env);
  const report = JSON.parse(stdout === '' ? '{"checks":[]}' : stdout) as Report;
  return { exitCode, stderr, report, said: Object.fromEntries(report.checks.map(({ check, verdict }) => [check, verdict])) };
}
const objects = [
  'read-write',
  'range',
  'put-if-absent',
  'put-if-match',
  'delete-if-match',
  'copy',
  'copy-if-match',
  'tags',
  'sse-s3',
  'sse-kms',
];
const uploads = ['list-uploads', 'list-parts', 'part-copy', 'multipart'];
const digests = ['checksum-header', 'payload-sha256', 'checksum-trailer'];
const all = (names: string[], verdict: string) => Object.fromEntries(names.map((name) => [name, verdict]));

describe('doctor', () => {
  test('a store that can do all of it: settings for everyone, no secret in them, and nothing left behind', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'doctor-'));
    s3.buckets.get('models')!.versioning = 'Enabled';
    const { exitCode, stdout, stderr } = await new Program('doctor', ['--results-dir', dir], env).ended;
    expect(exitCode, stderr).toBe(0);
    const { checks, settings, ...rest } = JSON.parse(stdout) as Report;
    expect(rest).toMatchObject({ region: 'us-east-1', pathStyle: true });
    expect(Object.fromEntries(checks.map(({ check, verdict }) => [check, verdict]))).toEqual({
      ...all([...objects, ...uploads, ...digests, 'path-style', 'clock', 'versioning'], 'yes'),
      ...all(['virtual-host', 'small-parts', 'default-encryption'], 'no'),
    });
    expect(settings.modelferry).toEqual({
      S3_BUCKET: 'models',
      S3_ENDPOINT_URL: s3.origin,
      S3_REGION: 'us-east-1',
      S3_PATH_STYLE: 'true',
      S3_CHECKSUM: 'crc32',
    });
    expect(settings.kserve.metadata.annotations).toMatchObject({
      'serving.kserve.io/s3-endpoint': s3.origin.replace('http://', ''),
      'serving.kserve.io/s3-usehttps': '0',
      'serving.kserve.io/s3-usevirtualbucket': 'false',
    });
    expect(settings.vllm).toEqual({
      AWS_ENDPOINT_URL: s3.origin,
      AWS_REGION: 'us-east-1',
      RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING: '0',
      AWS_EC2_METADATA_DISABLED: 'true',
    });
    expect(stdout).not.toContain(s3.credentials.secretAccessKey);
    expect(await readFile(join(dir, 'conditional-writes'), 'utf8')).toBe('yes');
    expect(s3.buckets.get('models')?.versions.size, 'versions and delete markers too').toBe(0);
    expect(s3.uploads('models')).toEqual([]);
    await rm(dir, { recursive: true });
  });

  test.each<[string, FakeS3Options, Record<string, string>]>([
    ['ignores conditions', { conditionalWrites: 'ignored' }, all(['put-if-absent', 'put-if-match', 'delete-if-match'], 'no')],
    ['refuses conditions', { conditionalWrites: 'refused' }, all(['put-if-absent', 'put-if-match', 'delete-if-match'], 'no')],
    ['knows no checksums', { checksums: 'ignored' }, { 'checksum-header': 'no', 'payload-sha256': 'yes' }],
    ['refuses trailers', { checksums: 'refused' }, { 'checksum-header': 'no', 'payload-sha256': 'yes', 'checksum-trailer': 'no' }],
    ['takes small parts', { minPartSize: 1 }, { multipart: 'yes', 'small-parts': 'yes' }],
    ['has no copies', { notImplemented: ['CopyObject', 'UploadPartCopy'] }, { copy: 'no', 'part-copy': 'no', multipart: 'yes' }],
    [
      'lists no uploads',
      { notImplemented: ['ListMultipartUploads', 'ListParts'] },
      { 'list-uploads': 'no', 'list-parts': 'no', multipart: 'yes' },
    ],
    ['has no tags', { notImplemented: ['GetObjectTagging'] }, { tags: 'no' }],
    ['may not be asked for tags', { deny: (verb) => verb === 'GetObjectTagging' }, { tags: 'unknown' }],
  ])('a store that %s', async (_, options, expected) => {
    await start(options);
    const { exitCode, stderr, said, report } = await ask();
    expect(exitCode, stderr).toBe(0);
    expect(said).toMatchObject({ 'read-write': 'yes', ...expected });
    expect(report.settings.modelferry.S3_CHECKSUM).toBe(expected['checksum-header'] === 'no' ? 'sha256' : 'crc32');
    expect(s3.keys('models')).toEqual([]);
    expect(s3.uploads('models')).toEqual([]);
  });

  test('a bucket that takes only what is encrypted as the settings say', async () => {
    const encrypted = (headers: Record<string, unknown>) => headers['x-amz-server-side-encryption'] === 'aws:kms';
    const creates = (url: string, method: string) => (method === 'PUT' && !url.includes('partNumber')) || url.endsWith('?uploads=');
    s3.fail({ on: ({ method, url, headers }) => creates(url, method) && !encrypted(headers), times: 99, answer: s3Answer('AccessDenied') });
    const { exitCode, stderr, said, report } = await ask('--s3-sse=aws:kms', '--s3-kms-key-id=alias/ours');
    expect(exitCode, stderr).toBe(0);
    expect(said).toMatchObject({ 'read-write': 'yes', copy: 'yes', multipart: 'yes', 'sse-kms': 'yes', 'sse-s3': 'unknown' });
    expect(report.settings.modelferry).toMatchObject({ S3_SSE: 'aws:kms', S3_KMS_KEY_ID: 'alias/ours' });
  });

  test('an older store: the settings keep newer SDKs from trailers', async () => {
    await start({ checksums: 'refused' });
    expect((await ask()).report.settings.vllm).toMatchObject({ AWS_REQUEST_CHECKSUM_CALCULATION: 'when_required' });
  });

  test('the bucket in the host name is tried where the endpoint has a name', async () => {
    env.S3_ENDPOINT = s3.origin.replace('127.0.0.1', 'localhost');
    const named = await lookup('models.localhost').then(
      () => 'yes',
      () => 'no',
    );
    const { said, report } = await ask('--s3-path-style=false');
    expect(said).toMatchObject({ 'path-style': 'yes', 'virtual-host': named });
    expect(report.settings.modelferry.S3_PATH_STYLE).toBe(named === 'yes' ? 'false' : 'true');
  });

  test('the region that the store names is gone on with', async () => {
    await start({ region: 'eu-north-7' });
    const { exitCode, report } = await ask();
    expect([exitCode, report.region]).toEqual([0, 'eu-north-7']);
    expect(report.settings.vllm.AWS_REGION).toBe('eu-north-7');
  });

  test.skipIf(certificate === undefined)('a CA of its own: KServe gets it from a ConfigMap, and the command that makes it', async () => {
    await s3.close();
    s3 = new FakeS3();
    await s3.listen({ tls: certificate! });
    s3.createBucket('models');
    const dir = await mkdtemp(join(tmpdir(), 'doctor-'));
    const bundle = join(dir, 'ca.pem');
    await writeFile(bundle, certificate!.cert);
    env = { ...env, S3_ENDPOINT: s3.origin, CA_BUNDLE: bundle };
    const { stdout, exitCode, stderr } = await runInProcess(doctor, [], env, { terminal: true });
    expect(exitCode, stderr).toBe(0);
    expect(stdout).toContain(`kubectl create configmap s3-ca --from-file=cabundle.crt=${bundle}`);
    expect(stdout).toContain('serving.kserve.io/s3-cabundle-configmap: s3-ca');
    expect(stdout).toContain('serving.kserve.io/s3-usehttps: "1"');
    expect(stdout).toContain(`AWS_CA_BUNDLE=${bundle}`);
    await rm(dir, { recursive: true });
  });

  test('exit codes: no bucket 3, denied 4, a wrong clock 4 with how wrong, unreachable 5, not usable 7', async () => {
    expect((await ask('--s3-bucket=none-such')).exitCode).toBe(3);
    const denied = await runInProcess(doctor, [], { ...env, AWS_SECRET_ACCESS_KEY: 'wrong' });
    expect(denied.exitCode).toBe(4);
    await start({ deny: (verb) => verb === 'PutObject' });
    const readOnly = await ask();
    expect([readOnly.exitCode, readOnly.said['read-write']]).toEqual([4, 'unknown']);
    await start({ notImplemented: ['CompleteMultipartUpload'] });
    const useless = await ask();
    expect([useless.exitCode, useless.said.multipart]).toEqual([7, 'no']);
    expect(s3.keys('models')).toEqual([]);
    await start();
    const { answer } = { answer: s3Answer('RequestTimeTooSkewed', { headers: { date: new Date(Date.now() - 3_600_000).toUTCString() } }) };
    s3.fail({ on: /./, times: 99, answer });
    const skewed = await ask();
    expect(skewed.exitCode).toBe(4);
    expect(skewed.stderr).toMatch(/-360\d s from here/);
    env.S3_ENDPOINT = 'http://127.0.0.1:1';
    expect((await ask()).exitCode).toBe(5);
  });

  test('ended by SIGTERM it cleans up', async () => {
    let release = () => {};
    const hold = new Promise<void>((resolve) => {
      release = resolve;
    });
    s3.fail({ on: /partNumber=1/, hold });
    const program = new Program('doctor', [], env);
    await until(() => s3.seen(/partNumber=1/).length > 0);
    expect(s3.uploads('models').length).toBe(1);
    const { exitCode } = await program.kill('SIGTERM');
    release();
    expect(exitCode).toBe(143);
    expect(s3.keys('models')).toEqual([]);
    expect(s3.uploads('models')).toEqual([]);
  });

  test('a dry run puts nothing', async () => {
    const { exitCode, said } = await ask('--dry-run=true');
    expect([exitCode, said['path-style']]).toEqual([0, 'yes']);
    expect(s3.requests.filter(({ method }) => !['GET', 'HEAD'].includes(method))).toEqual([]);
  });
});
