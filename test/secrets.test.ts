import { existsSync, readdirSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { defineStep, type StepContext } from '../lib/define-step.ts';
import { schema } from '../lib/params/declare.ts';
import { hubParams } from '../lib/params/groups/hub.ts';
import { storeEnv } from './fakes/cache.ts';
import { FakeHub } from './fakes/hub.ts';
import { keepSecret, leaksInFiles } from './fakes/leaks.ts';
import { tinyLlama } from './fakes/model.ts';
import { Program, runInProcess, until } from './fakes/program.ts';
import { basePath, FakeRegistry } from './fakes/registry.ts';
import { FakeS3 } from './fakes/s3.ts';

const tokens = { hub: 'hf_Ab+c/d=12345', registry: 'registry token/1', session: 'session+token/1=' };

let hub: FakeHub;
let s3: FakeS3;
let registry: FakeRegistry;
let dir: string;
let env: Record<string, string>;
beforeEach(async () => {
  hub = new FakeHub({ tokens: { [tokens.hub]: { access: ['acme/model'] } } });
  s3 = new FakeS3({ credentials: { testaccess: 'secret/with+signs=' } });
  registry = new FakeRegistry({ token: tokens.registry });
  await Promise.all([hub.listen(), s3.listen(), registry.listen()]);
  hub.addRepo({ id: 'acme/model', files: tinyLlama(), gated: 'manual', private: true });
  s3.createBucket('models');
  dir = await mkdtemp(join(tmpdir(), 'secrets-'));
  env = {
    MODEL_ID: 'acme/model',
    WORKSPACE: join(dir, 'workspace'),
    RESULTS_DIR: join(dir, 'results'),
    LOG_FILE: join(dir, 'log'),
    LOG_LEVEL: 'trace',
    HF_ENDPOINT: hub.origin,
    HF_TOKEN: tokens.hub,
    ...storeEnv(s3),
    AWS_SESSION_TOKEN: tokens.session,
    MODEL_REGISTRY_URL: registry.origin,
    MODEL_REGISTRY_TOKEN: tokens.registry,
    RETRIES: '0',
  };
});
afterEach(async () => {
  await Promise.all([hub.close(), s3.close(), registry.close()]);
  await rm(dir, { recursive: true });
});

/** What Program and the servers throw by themselves; here is only what they had to look at. */
describe('no secret leaves its way', () => {
  test('in an import at the lowest level of the log: records, metadata, results, files and requests are searched', async () => {
    const { exitCode, stderr } = await new Program('import', [], env).ended;
    expect(exitCode, stderr).toBe(0);
    expect([existsSync(env.LOG_FILE ?? ''), readdirSync(env.RESULTS_DIR ?? '').length > 5]).toEqual([true, true]);
    expect([s3.keys('models').length > 5, registry.records('artifact').length]).toEqual([true, 1]);
  });

  test.each([
    ['HF_TOKEN', 'hf_nobody_knows_it', 4],
    ['AWS_SECRET_ACCESS_KEY', 'another/secret+key', 4],
    ['MODEL_REGISTRY_TOKEN', 'another registry token', 4],
    ['MODEL_ID', tokens.hub, 2],
    ['PART_SIZE', 'secret/with+signs=', 2],
    ['S3_ENDPOINT', 'http://user:secret/with+signs=@host', 2],
    ['HTTP_PROXY', 'http://user:proxy-pass%2Fword@127.0.0.1:1', 5],
  ])('in what is said when %s is wrong', async (name, value, code) => {
    const { exitCode, stderr } = await new Program('import', [], { ...env, [name]: value }).ended;
    expect(exitCode, stderr).toBe(code);
  });

  test('in the report that Node writes of a process', async () => {
    hub.fail({ on: /./, stallAfter: -1 });
    const reports = join(dir, 'reports');
    await mkdir(reports);
    const program = new Program('download', [], { ...env, NODE_OPTIONS: `--report-on-signal --report-directory=${reports}` }, reports);
    await until(() => hub.requests.length > 0);
    program.child.kill('SIGUSR2');
    await until(() => readdirSync(reports).some((name) => name.endsWith('.json')));
    const { exitCode } = await program.kill('SIGTERM');
    expect(exitCode).toBe(143);
    const [name = ''] = readdirSync(reports);
    expect(await readFile(join(reports, name), 'utf8')).toContain('"javascriptStack"');
  });

  test.each(['json', 'pretty'])('in what is thrown where nobody catches it, said as %s', async (format) => {
    hub.fail({ on: /./, stallAfter: -1 });
    const thrower = "setTimeout(()=>{throw new Error('no\\n12:00:00 info all is well '+process.env.HF_TOKEN)},300)";
    const more = { LOG_FORMAT: format, NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(thrower)}` };
    const { exitCode, stderr } = await new Program('download', [], { ...env, ...more }).ended;
    expect([exitCode, stderr]).toEqual([1, expect.stringContaining('**redacted**')]);
    expect(stderr).not.toMatch(/^12:00:00/m);
  });
});

const step = (run: (workspace: string, ctx: StepContext) => Promise<unknown>) =>
  defineStep({
    name: 'probe',
    summary: 'Probes.',
    params: schema(hubParams),
    results: {},
    async run(_, ctx) {
      await run(join(dir, 'workspace'), ctx);
      return {};
    },
  });
const encoded = (text: string) => Buffer.from(`user:${text}`).toString('base64');

describe('the search finds what is planted', () => {
  test.each([
    ['a file', (workspace: string) => writeFile(join(workspace, 'source.json'), `{"a":"${encoded(tokens.hub)}"}`)],
    ['the name of a file', (workspace: string) => writeFile(join(workspace, encodeURIComponent(tokens.hub)), '')],
  ])('in %s of the workspace', async (_, plant) => {
    await mkdir(join(dir, 'workspace'));
    const run = runInProcess(step(plant), [], { HF_TOKEN: tokens.hub, WORKSPACE: join(dir, 'workspace') });
    await expect(run).rejects.toThrow(/hf_\.\.\. \((base64|percent-encoded)/);
  });

  test('in a line that goes past the log', async () => {
    const program = new Program('download', [], {
      ...env,
      HF_TOKEN: 'hf_planted_here',
      NODE_OPTIONS: `--import=data:text/javascript,console.error(process.env.HF_TOKEN)`,
    });
    await expect(program.ended).rejects.toThrow('writes secrets: hf_... (plain)');
  });

  test('in an object, its metadata and its key, in a record, and in a request of the wrong server', async () => {
    const put = async (key: string, headers: Record<string, string>, body: string) =>
      await fetch(`${s3.origin}/models/${key}`, { method: 'PUT', headers, body });
    await put('object', {}, `{"token":${JSON.stringify(tokens.hub)}}`);
    await put('metadata', { 'x-amz-meta-source': encodeURIComponent(s3.credentials.secretAccessKey) }, '');
    await put(encodeURIComponent(tokens.hub), {}, '');
    await put('authorization', { authorization: `Bearer ${tokens.hub}` }, '');
    expect(s3.takeLeaks().length).toBeGreaterThanOrEqual(4);

    const authorization = `Bearer ${tokens.registry}`;
    const record = { name: 'x', customProperties: { auth: { string_value: encoded(tokens.hub), metadataType: 'MetadataStringValue' } } };
    await fetch(`${registry.origin}${basePath}/registered_models`, {
      method: 'POST',
      headers: { authorization },
      body: JSON.stringify(record),
    });
    expect(registry.server.takeLeaks()).toEqual([expect.stringContaining('(base64')]);

    await fetch(`${hub.origin}/api/models/acme/model?token=${encodeURIComponent(tokens.hub)}`, {
      headers: { authorization: `Bearer ${tokens.hub}` },
    });
    expect(hub.hub.takeLeaks()).toEqual([expect.stringContaining('(percent-encoded)')]);
    await fetch(hub.cdn.origin, { headers: { authorization: `Bearer ${tokens.hub}` } });
    expect(hub.cdn.takeLeaks()).toHaveLength(1);
  });

  test('and is silent about what is at home', async () => {
    keepSecret(tokens.session, 's3');
    await fetch(hub.origin, { headers: { authorization: `Bearer ${tokens.hub}` } });
    await fetch(s3.origin, { headers: { 'x-amz-security-token': tokens.session } });
    await fetch(registry.origin, { headers: { authorization: `Bearer ${tokens.registry}` } });
    expect([...hub.hub.takeLeaks(), ...s3.takeLeaks(), ...registry.server.takeLeaks()]).toEqual([]);
    const file = join(dir, 'token');
    await writeFile(file, `${tokens.hub}\n`);
    expect(leaksInFiles([], { HF_TOKEN_PATH: file, WORKSPACE: dir })).toEqual([]);
    await writeFile(join(dir, 'other'), tokens.hub);
    expect(leaksInFiles([], { HF_TOKEN_PATH: file, WORKSPACE: dir })).toHaveLength(1);
  });
});
