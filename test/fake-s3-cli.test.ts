import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ListBucketsCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { build } from 'esbuild';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { awsCli, awsEnv, skipAwsCli } from './fakes/aws-cli.ts';
import { FakeS3 } from './fakes/s3.ts';

const run = promisify(execFile);
const MiB = 1024 * 1024;
let aws = '';
let server: FakeS3;
let dir: string;

async function call(...args: string[]): Promise<string> {
  const { stdout } = await run(aws, args, { cwd: dir, env: awsEnv(server.origin, dir, server.credentials) });
  return stdout;
}

beforeAll(async () => {
  if (skipAwsCli) return;
  aws = await awsCli();
  server = await new FakeS3().listen();
  server.createBucket('models');
  dir = mkdtempSync(join(tmpdir(), 'fake-s3-cli-'));
  writeFileSync(join(dir, 'config'), '[default]\ns3 =\n  signature_version = s3v4\n');
}, 300_000);

afterAll(async () => {
  if (skipAwsCli) return;
  await server.close();
  rmSync(dir, { recursive: true });
});

test('runs as one bundled program until it is told to stop', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'fake-s3-main-'));
  const outfile = join(folder, 's3.cjs');
  await build({ entryPoints: [join(import.meta.dirname, 'fakes/s3-main.ts')], bundle: true, platform: 'node', format: 'cjs', outfile });
  const env = { PATH: process.env.PATH, BUCKETS: 'models,other', S3_ACCESS_KEY_ID: 'key', S3_SECRET_ACCESS_KEY: 'secret', DIR: folder };
  const program = spawn(process.execPath, [outfile], { env, stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(program, 'exit');
  try {
    const [line] = (await once(program.stdout, 'data')) as [Buffer];
    const credentials = { accessKeyId: 'key', secretAccessKey: 'secret' };
    const client = new S3Client({ endpoint: line.toString().trim(), region: 'us-east-1', credentials, forcePathStyle: true });
    await client.send(new PutObjectCommand({ Bucket: 'models', Key: 'k', Body: 'body' }));
    const { Buckets } = await client.send(new ListBucketsCommand());
    expect(Buckets?.map(({ Name }) => Name)).toEqual(['models', 'other']);
    expect(readdirSync(join(folder, 'bodies'))).toHaveLength(1);
  } finally {
    program.kill('SIGTERM');
  }
  expect(await ended).toEqual([0, null]);
  expect(readdirSync(folder)).toEqual(['s3.cjs']);
  rmSync(folder, { recursive: true });
});

test.skipIf(skipAwsCli)(
  'the aws command copies a multipart file up and down, lists it and looks at it',
  async () => {
    const bytes = randomBytes(20 * MiB + 5);
    writeFileSync(join(dir, 'weights.bin'), bytes);
    await call('s3', 'cp', '--no-progress', '--metadata', 'sha256=abc', 'weights.bin', 's3://models/org/a model/weights.bin');
    const object = server.object('models', 'org/a model/weights.bin');
    expect(object?.etag).toMatch(/-3"$/);
    expect((await object?.bytes())?.equals(bytes)).toBe(true);
    expect(server.uploads('models')).toEqual([]);

    await call('s3', 'cp', '--no-progress', 's3://models/org/a model/weights.bin', 'back.bin');
    expect(readFileSync(join(dir, 'back.bin')).equals(bytes)).toBe(true);
    expect(await call('s3', 'ls', '--recursive', 's3://models/org/')).toMatch(new RegExp(` ${bytes.length} org/a model/weights.bin\\n$`));
    expect(await call('s3', 'ls', 's3://models/org/')).toMatch(/PRE a model\//);

    const head = await call('s3api', 'head-object', '--bucket', 'models', '--key', 'org/a model/weights.bin', '--checksum-mode', 'ENABLED');
    expect(JSON.parse(head)).toMatchObject({ ContentLength: bytes.length, ETag: object?.etag, Metadata: { sha256: 'abc' } });

    await call('s3', 'mv', 's3://models/org/a model/weights.bin', 's3://models/moved');
    expect(server.keys('models')).toEqual(['moved']);
    const url = (await call('s3', 'presign', 's3://models/moved')).trim();
    expect(Buffer.from(await (await fetch(url)).arrayBuffer()).equals(bytes)).toBe(true);
    expect((await fetch(url.replace(/.$/, (last) => (last === '0' ? '1' : '0')))).status).toBe(403);
    await call('s3', 'rm', '--recursive', 's3://models/');
    expect(server.keys('models')).toEqual([]);
  },
  120_000,
);
