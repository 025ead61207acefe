import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { CreateBucketCommand, GetObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { bytesOf } from '../fakes/content.ts';
import { FakeHub } from '../fakes/hub.ts';
import { tinyLlama } from '../fakes/model.ts';
import { Program } from '../fakes/program.ts';
import { testCredentials } from '../fakes/s3.ts';
import { features } from './features.ts';
import { dialects, type Running } from './servers.ts';

/**
 * `npm run test:dialects [-- --only Ceph --build]`: against every S3 that can be had here, what it knows, the contract of stores, and a whole import and
 * sync by the built programs. One that cannot be had is told and left out.
 */
const root = join(import.meta.dirname, '../..');
const reports = join(root, '.cache/reports');
const { values } = parseArgs({ options: { only: { type: 'string' }, build: { type: 'boolean', default: false } } });
const { accessKeyId, secretAccessKey } = testCredentials;
const say = (text: string) => process.stdout.write(`${text}\n`);
mkdirSync(reports, { recursive: true });

const columns: { name: string; known: Map<string, boolean> }[] = [];
const counts = { passed: 0, failed: 0 };
for (const dialect of dialects) {
  if (values.only !== undefined && !dialect.name.includes(values.only)) continue;
  const dir = await mkdtemp(join(tmpdir(), 'dialect-'));
  try {
    const running = await dialect.start(dir, values.build);
    if (typeof running === 'string') say(`skip ${dialect.name}: ${running}`);
    else await look(running).finally(running.stop);
  } catch (error) {
    counts.failed += 1;
    say(`FAIL ${dialect.name}: ${String(error)}`);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
say(`\n| | ${columns.map(({ name }) => name).join(' | ')} |\n| --- |${' --- |'.repeat(columns.length)}`);
for (const { name } of features) say(`| ${name} | ${columns.map(({ known }) => (known.get(name) ? 'yes' : 'no')).join(' | ')} |`);
say(`\n${counts.passed} passed, ${counts.failed} failed`);
const summary = { numTotalTests: counts.passed + counts.failed, numPassedTests: counts.passed, numFailedTests: counts.failed };
writeFileSync(join(reports, 'dialects.json'), `${JSON.stringify(summary)}\n`);
process.exitCode = counts.failed > 0 ? 1 : 0;

async function look({ name, endpoint }: Running): Promise<void> {
  say(`${name} at ${endpoint}`);
  const bucket = `modelferry-${randomUUID()}`;
  const client = new S3Client({
    endpoint,
    region: 'us-east-1',
    forcePathStyle: true,
    maxAttempts: 1,
    credentials: testCredentials,
    requestChecksumCalculation: 'WHEN_REQUIRED',
  });
  await client.send(new CreateBucketCommand({ Bucket: bucket }));
  const known = new Map<string, boolean>();
  for (const feature of features) known.set(feature.name, await feature.ask(client, bucket));
  columns.push({ name, known });
  await contract(endpoint, bucket);
  for (const step of ['import', 'sync']) await carry(step, endpoint, bucket, client);
  client.destroy();
}

/** The contract of test/store-contract.ts, run by the test runner. */
async function contract(endpoint: string, bucket: string): Promise<void> {
  const file = join(reports, `contract-${bucket}.json.tmp`);
  const env = {
    ...process.env,
    CONTRACT_REPORT: file,
    TEST_S3_ENDPOINT: endpoint,
    TEST_S3_BUCKET: bucket,
    TEST_S3_ACCESS_KEY_ID: accessKeyId,
    TEST_S3_SECRET_ACCESS_KEY: secretAccessKey,
  };
  const args = ['run', '--config', 'test/dialects/vitest.config.ts'];
  await new Promise<void>((resolve) => execFile(join(root, 'node_modules/.bin/vitest'), args, { cwd: root, env }, () => resolve()));
  const report = JSON.parse(readFileSync(file, 'utf8')) as Report;
  await rm(file);
  counts.passed += report.numPassedTests;
  counts.failed += report.numFailedTests;
  say(`  contract: ${report.numPassedTests} passed, ${report.numFailedTests} failed`);
  for (const test of report.testResults.flatMap((each) => each.assertionResults)) {
    if (test.status === 'failed') say(`    ${test.fullName}: ${test.failureMessages.join(' ').split('\n')[0]}`);
  }
}

interface Report {
  numPassedTests: number;
  numFailedTests: number;
  testResults: { assertionResults: { status: string; fullName: string; failureMessages: string[] }[] }[];
}

/** The program brings a model, once more, and its next commit, which copies: every byte is compared with the Hub's. */
async function carry(step: string, endpoint: string, bucket: string, client: S3Client): Promise<void> {
  const hub = await new FakeHub().listen();
  const workspace = await mkdtemp(join(tmpdir(), 'dialect-workspace-'));
  try {
    const files = tinyLlama({ shardBytes: 11_000_000, junk: true });
    const repo = hub.addRepo({ id: 'acme/model', files });
    const env = {
      MODEL_ID: 'acme/model',
      MODEL_NAME: step,
      WORKSPACE: workspace,
      HF_ENDPOINT: hub.origin,
      S3_BUCKET: bucket,
      S3_ENDPOINT_URL: endpoint,
      AWS_ACCESS_KEY_ID: accessKeyId,
      AWS_SECRET_ACCESS_KEY: secretAccessKey,
      PART_SIZE: '5MiB',
      ALLOW_UNSAFE: 'always',
    };
    const first = await run(step, env);
    const again = await run(step, env);
    repo.commit({ files: new Map([['README.md', Buffer.from('---\nlicense: mit\n---\nBetter.\n')]]), message: 'Better card' });
    const next = await run(step, env);
    const faults: string[] = [];
    for (const [path, content] of files) {
      const Key = `${first['model-uri']?.replace(`s3://${bucket}/`, '')}${path}`;
      const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key }));
      if (!bytesOf(content).equals(Buffer.from((await Body?.transformToByteArray()) ?? []))) faults.push(`${path} differs`);
    }
    if (again.unchanged !== 'true') faults.push('the second run sent something');
    if (Number(next['copied-bytes']) < 22_000_000) faults.push(`${next['copied-bytes']} bytes were copied`);
    counts[faults.length === 0 ? 'passed' : 'failed'] += 1;
    say(`  ${step}: ${faults.length === 0 ? 'ok' : faults.join(', ')}`);
  } catch (error) {
    counts.failed += 1;
    say(`  ${step}: ${String(error)}`);
  } finally {
    await hub.close();
    await rm(workspace, { recursive: true, force: true });
  }
}

async function run(step: string, env: Record<string, string>): Promise<Record<string, string>> {
  const { exitCode, stdout, stderr } = await new Program(step, [], env).ended;
  if (exitCode !== 0) throw new Error(`exit ${exitCode}: ${stderr.slice(-600)}`);
  return JSON.parse(stdout) as Record<string, string>;
}
