import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { register } from '../tasks/register-in-model-registry/step.ts';
import { upload } from '../tasks/upload/step.ts';
import { FakeHub } from './fakes/hub.ts';
import { tinyLlama } from './fakes/model.ts';
import { Program, runInProcess, until } from './fakes/program.ts';
import { FakeRegistry } from './fakes/registry.ts';
import { FakeS3 } from './fakes/s3.ts';
import { FakeServer } from './fakes/server.ts';
import { fillWorkspace } from './fakes/workspace.ts';

const commit = 'a'.repeat(40);
const version = 'a'.repeat(12);
const readme = '---\nlicense: other\nlanguage: [en]\n---\n\n# Tiny 🚀 ümlaut\n';
const files = { 'README.md': Buffer.from(readme), 'config.json': Buffer.from('{}'), 'model.safetensors': randomBytes(1000) };
const card = {
  url: 'https://huggingface.co/acme/tiny',
  commit,
  license: 'other',
  licenseName: 'tiny-licence',
  licenseLink: 'LICENSE',
  pipelineTag: 'text-generation',
  languages: ['en', 'de'],
  library: 'transformers',
};

let hub: FakeHub;
let s3: FakeS3;
let registry: FakeRegistry;
let home: string;
let workspace: string;
let env: Record<string, string>;
beforeEach(async () => {
  [hub, s3, registry] = await Promise.all([new FakeHub().listen(), new FakeS3().listen(), new FakeRegistry().listen()]);
  s3.createBucket('models');
  hub.addRepo({ id: 'acme/tiny', files: tinyLlama() });
  home = await mkdtemp(join(tmpdir(), 'register-'));
  workspace = join(home, 'workspace');
  env = {
    WORKSPACE: workspace,
    HUB_URL: hub.origin,
    S3_BUCKET: 'models',
    S3_ENDPOINT: s3.origin,
    AWS_ACCESS_KEY_ID: s3.credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: s3.credentials.secretAccessKey,
    MODEL_REGISTRY_URL: registry.origin,
  };
});
afterEach(async () => {
  await Promise.all([hub.close(), s3.close(), registry.close()]);
  await rm(home, { recursive: true });
});

/** What download leaves, with all that the Hub may say. */
async function download(more: { repo?: string } = {}) {
  const model = await fillWorkspace(workspace, files, { commit, ...more });
  await writeFile(join(model.dir, 'source.json'), JSON.stringify(card));
  return model;
}

/** Publishes the workspace's model; gives upload's results. */
async function publish(...argv: string[]): Promise<Record<string, string>> {
  await download();
  const { exitCode, results, stderr } = await runInProcess(upload, argv, env);
  expect(stderr).not.toContain('"error"');
  expect(exitCode).toBe(0);
  return results;
}

const run = (argv: string[], more: Record<string, string> = {}) => runInProcess(register, argv, { ...env, ...more });
const artifacts = () => registry.records('artifact');

const text = (value: string) => ({ metadataType: 'MetadataStringValue', string_value: value });

const { TEST_MODEL_REGISTRY_URL: real } = process.env;
describe.each(['v0.2.22', 'v0.3', ...(real ? ['real'] : [])])('a published model, registry %s', (kind) => {
  let target: FakeRegistry | undefined;
  let url: string;
  let name: string;
  beforeEach(async () => {
    target = kind === 'real' ? undefined : await new FakeRegistry({ mode: kind === 'v0.3' ? 'v0.3' : 'v0.2.22' }).listen();
    url = target?.origin ?? String(real);
    env = { ...env, MODEL_REGISTRY_URL: url, MODEL_NAME: `tiny-${randomBytes(6).toString('hex')}` };
    name = String(env.MODEL_NAME);
  });
  afterEach(() => target?.close());
  const read = async (path: string) =>
    (await fetch(`${url}/api/model_registry/v1alpha3/${path}`)).json() as Promise<Record<string, unknown>>;

  test('is registered in one go with all that the design asks for, and once only', async () => {
    const uploaded = await publish();
    const { exitCode, results, stdout } = await run(['--author', 'ann', '--storage-key', 'models-secret']);
    expect(exitCode).toBe(0);
    expect(JSON.parse(stdout)).toEqual(results);
    expect(results.commit).toBe(commit);
    expect(await readFile(join(workspace, 'model_version_id'), 'utf8')).toBe(results['model-version-id']);
    const uri = `s3://models/model-data/${name}/${version}/`;
    expect(uploaded['model-uri']).toBe(uri);

    expect(await read(`registered_models/${results['registered-model-id']}`)).toMatchObject({
      name,
      externalId: `hf:acme/tiny#${name}`,
      license: 'tiny-licence',
      licenseLink: `https://huggingface.co/acme/tiny/blob/${commit}/LICENSE`,
      libraryName: 'transformers',
      tasks: ['text-generation'],
      language: ['en', 'de'],
      readme: '# Tiny  ümlaut\n',
      customProperties: { source: text('huggingface') },
    });
    const ours = {
      'modelferry.commit': text(commit),
      'modelferry.method': text('none'),
      'modelferry.manifest_sha256': text(String(uploaded['manifest-sha256'])),
      'modelferry.total_bytes': { metadataType: 'MetadataDoubleValue', double_value: Number(uploaded['total-bytes']) },
      'modelferry.endpoint': text(s3.origin),
      'modelferry.region': text('us-east-1'),
    };
    expect(await read(`model_versions/${results['model-version-id']}`)).toMatchObject({
      name: version,
      externalId: `hf:acme/tiny@${commit}:none#${name}/${version}`,
      author: 'ann',
      customProperties: {
        source: text('huggingface'),
        framework: text('transformers'),
        compressed: { metadataType: 'MetadataBoolValue', bool_value: false },
        storage_type: text('s3'),
        ...ours,
      },
    });
    const artifact = await read(`model_artifacts/${results['model-artifact-id']}`);
    expect(artifact).toMatchObject({
      uri,
      state: 'LIVE',
      externalId: `${uri}#${uploaded['manifest-sha256']}`,
      storageKey: 'models-secret',
      storagePath: `model-data/${name}/${version}`,
    });
    expect(artifact.customProperties).toEqual(ours);

    const again = await run(['--author', 'ann', '--storage-key', 'models-secret']);
    expect(again.results).toEqual(results);
    expect(await read(`model_artifacts/${results['model-artifact-id']}`)).toEqual(artifact);
  });

  test('is reserved first, then completed from its URI alone', async () => {
    hub.repo('acme/tiny').tag('v1');
    const reserved = await run(['--phase', 'reserve', '--model-id', 'acme/tiny', '--revision', 'v1', '--model-version', '1.0']);
    expect(reserved.exitCode).toBe(0);
    const head = String(hub.repo('acme/tiny').branches.get('main'));
    expect(reserved.results.commit).toBe(head);
    const path = `model_artifacts/${reserved.results['model-artifact-id']}`;
    expect(await read(path)).toMatchObject({ state: 'PENDING', uri: `s3://models/model-data/${name}/1.0/` });

    await fillWorkspace(workspace, files, { commit: head });
    const uploaded = await runInProcess(upload, ['--model-version', '1.0'], env);
    const elsewhere = join(home, 'elsewhere');
    const { exitCode, results } = await run(
      ['--phase', 'complete', '--model-uri', String(uploaded.results['model-uri']), '--workspace', elsewhere, '--model-version', '1.0'],
      { MODEL_ARTIFACT_ID: String(reserved.results['model-artifact-id']), MANIFEST_SHA256: String(uploaded.results['manifest-sha256']) },
    );
    expect(exitCode).toBe(0);
    expect(results).toEqual(reserved.results);
    expect(await read(path)).toMatchObject({ state: 'LIVE' });
    expect(existsSync(elsewhere)).toBe(false);
  });
});

describe('what is not published', () => {
  test('is not-found, and its artifact stays pending', async () => {
    await download();
    const { exitCode, stderr } = await run([]);
    expect(exitCode).toBe(3);
    expect(stderr).toContain('it is not published (.modelferry/manifests/');
    expect(artifacts()).toMatchObject([{ state: 'PENDING' }]);
  });

  test('as the digest says is refused, and its artifact stays pending', async () => {
    await publish();
    const { exitCode, stderr } = await run(['--manifest-sha256', 'b'.repeat(64)]);
    expect(exitCode).toBe(6);
    expect(stderr).toContain('expected bbbb');
    expect(artifacts()).toMatchObject([{ state: 'PENDING' }]);
  });

  test('and unknown is a usage error', async () => {
    const { exitCode, stderr } = await run([]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain('--model-uri');
    expect(registry.records('model')).toEqual([]);
  });

  test.each([
    ['s3://other/model-data/tiny/1/', 2],
    ['s3://models/../x/', 2],
    ['s3://models/', 2],
    ['model-data/tiny', 2],
    // KServe takes a query for a part of the prefix, and so do we: nothing is published there.
    ['s3://models/model-data/tiny/1/?endpoint=x', 3],
  ])('at %s ends with exit code %i', async (uri, code) => {
    expect((await run(['--model-uri', uri])).exitCode).toBe(code);
    expect(registry.records('model')).toEqual([]);
  });
});

describe('a conflict', () => {
  test('shows at reserve: the name holds another source', async () => {
    hub.addRepo({ id: 'other/tiny', files: tinyLlama({ seed: 2 }) });
    expect((await run(['--phase', 'reserve', '--model-id', 'acme/tiny'])).exitCode).toBe(0);
    const { exitCode, stderr } = await run(['--phase', 'reserve', '--model-id', 'other/tiny']);
    expect(exitCode).toBe(7);
    expect(stderr).toContain('--model-name');
    expect((await run(['--phase', 'reserve', '--model-id', 'other/tiny', '--model-name', 'tiny-2'])).exitCode).toBe(0);
  });

  test('of a version that holds another commit', async () => {
    const argv = ['--phase', 'reserve', '--model-id', 'acme/tiny', '--model-version', '1.0'];
    expect((await run(argv)).exitCode).toBe(0);
    hub.repo('acme/tiny').commit({ files: tinyLlama({ seed: 3 }), message: 'Train some more' });
    const { exitCode, stderr } = await run(argv);
    expect(exitCode).toBe(7);
    expect(stderr).toContain('--model-version');
  });
});

test('what is registered under another version is refused, and nothing is made', async () => {
  env = { ...env, KEY_TEMPLATE: 'models/{name}' };
  const uploaded = await publish();
  expect((await run(['--model-version', '1.0'])).exitCode).toBe(0);
  for (const argv of [[], ['--model-uri', String(uploaded['model-uri'])]]) {
    const { exitCode, stderr } = await run(['--model-version', '2.0', ...argv]);
    expect(exitCode).toBe(7);
    expect(stderr).toContain('has it already');
  }
  expect(registry.records('version').map(({ name }) => name)).toEqual(['1.0']);
  expect(artifacts()).toMatchObject([{ state: 'LIVE' }]);
});

describe('a place that holds another commit than the one that is meant', () => {
  const meant = ['--model-id', 'acme/tiny', '--revision', 'b'.repeat(40)];
  beforeEach(async () => {
    env = { ...env, KEY_TEMPLATE: 'models/{name}' };
    await publish();
  });

  test('is registered as what it holds, with a warning', async () => {
    const { exitCode, results, stderr } = await run(meant);
    expect(exitCode).toBe(0);
    expect(results.commit).toBe(commit);
    expect(stderr).toContain('not what was meant');
    expect(registry.records('version').map(({ name }) => name)).toEqual([version]);
  });

  test('is refused under a version that was given', async () => {
    const { exitCode, stderr } = await run([...meant, '--model-version', '1.0']);
    expect(exitCode).toBe(7);
    expect(stderr).toContain(`holds acme/tiny@${commit}`);
    expect(registry.records('model')).toEqual([]);
  });
});

describe('abandon', () => {
  test('ends what reserve began, by its id or by the names', async () => {
    const { results } = await run(['--phase', 'reserve', '--model-id', 'acme/tiny']);
    const abandoned = await run(['--phase', 'abandon', '--model-artifact-id', String(results['model-artifact-id'])]);
    expect(abandoned).toMatchObject({ exitCode: 0, results: { 'model-artifact-id': results['model-artifact-id'] } });
    expect(artifacts()).toMatchObject([{ state: 'ABANDONED' }]);
    await run(['--phase', 'reserve', '--model-id', 'acme/tiny']);
    expect(artifacts()).toMatchObject([{ state: 'PENDING' }]);
    await run(['--phase', 'abandon', '--model-id', 'acme/tiny', '--model-artifact-id', '']);
    expect(artifacts()).toMatchObject([{ state: 'ABANDONED' }]);
  });

  test('does nothing once it is live', async () => {
    await publish();
    const { results } = await run([]);
    const abandoned = await run(['--phase', 'abandon', '--model-artifact-id', String(results['model-artifact-id'])]);
    expect(abandoned.exitCode).toBe(0);
    expect(artifacts()).toMatchObject([{ state: 'LIVE' }]);
  });

  test.each([
    ['nothing was reserved', ['--model-id', 'acme/tiny'], {}],
    ['the model does not exist', ['--model-id', 'acme/none'], {}],
    ['nothing is known', [], {}],
    ['there is no such artifact', ['--model-artifact-id', '77'], {}],
    ['there is no registry', ['--model-artifact-id', '77'], { MODEL_REGISTRY_URL: '' }],
  ])('succeeds where %s, and says so', async (_, argv, more) => {
    const { exitCode, stderr } = await run(['--phase', 'abandon', ...argv], more);
    expect(exitCode).toBe(0);
    expect(stderr).toMatch(/nothing to abandon|nothing is registered/);
  });
});

test('a reservation whose model was published as another is abandoned when that is registered', async () => {
  const reserved = await run(['--phase', 'reserve', '--model-id', 'acme/tiny']);
  const uploaded = await publish();
  const argv = ['--phase', 'complete', '--model-uri', String(uploaded['model-uri'])];
  const { exitCode, results } = await run(argv, { MODEL_ARTIFACT_ID: String(reserved.results['model-artifact-id']) });
  expect(exitCode).toBe(0);
  expect(results.commit).toBe(commit);
  expect(artifacts().map(({ id, state }) => [id, state])).toEqual([
    [reserved.results['model-artifact-id'], 'ABANDONED'],
    [results['model-artifact-id'], 'LIVE'],
  ]);
});

describe('passing through', () => {
  const noIds = { 'registered-model-id': '', 'model-version-id': '', 'model-artifact-id': '' };

  test('without a registry reserve still pins the commit', async () => {
    const { exitCode, results, stderr } = await run(['--phase', 'reserve', '--model-id', 'acme/tiny', '--model-registry-url', ''], {
      MODEL_REGISTRY_URL: '',
    });
    expect(exitCode).toBe(0);
    expect(results).toEqual({ ...noIds, commit: hub.repo('acme/tiny').branches.get('main') });
    expect(stderr).toContain('no --model-registry-url');
  });

  test('without a registry nothing of the store is asked', async () => {
    await publish();
    const before = s3.requests.length;
    const { exitCode, results } = await run([], { MODEL_REGISTRY_URL: '' });
    expect(exitCode).toBe(0);
    expect(results).toEqual({ ...noIds, commit });
    expect(s3.requests).toHaveLength(before);
    expect(existsSync(join(workspace, 'model_version_id'))).toBe(false);
  });

  test.each(['register', 'register-in-model-registry', 'register-with-registry'])('as %s in --skip-tasks', async (task) => {
    await publish();
    const { exitCode, results, stderr } = await run(['--skip-tasks', `upload,${task}`, '--task-name', 'register-with-registry']);
    expect(exitCode).toBe(0);
    expect(results).toEqual({ ...noIds, commit });
    expect(stderr).toContain('--skip-tasks');
    expect(registry.requests).toEqual([]);
  });

  test('reserve without a model is a usage error', async () => {
    expect(await run(['--phase', 'reserve'])).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('--model-id') });
  });
});

describe('a dry run', () => {
  const dry = async (argv: string[] = [], more: Record<string, string> = {}) => {
    const ask = (terminal: boolean) => runInProcess(register, ['--dry-run', ...argv], { ...env, ...more }, { terminal });
    const [forPeople, forMachines] = [await ask(true), await ask(false)];
    expect([forPeople.exitCode, forMachines.exitCode]).toEqual([0, 0]);
    return { text: forPeople.stdout, json: JSON.parse(forMachines.stdout) as { unchanged: boolean; changes: Record<string, unknown>[] } };
  };

  test('tells what it would make, and makes nothing', async () => {
    await publish();
    const { text, json } = await dry(['--results-dir', join(home, 'results')]);
    for (const line of [
      'would make registered model "tiny"',
      `would make model version "${version}"`,
      'would change model artifact "tiny"',
    ])
      expect(text).toContain(line);
    expect(json.unchanged).toBe(false);
    expect(json.changes).toContainEqual({
      action: 'change',
      record: 'model artifact',
      name: 'tiny',
      fields: expect.objectContaining({ state: 'LIVE' }),
    });
    expect(json.changes.map(({ action, record }) => `${action} ${record}`)).toEqual([
      'make registered model',
      'make model version',
      'make model artifact',
      'change model artifact',
    ]);
    expect(registry.records('model')).toEqual([]);
    expect(existsSync(join(home, 'results'))).toBe(false);
    expect(existsSync(join(workspace, 'model_version_id'))).toBe(false);
  });

  test.each([
    ['it is registered', [], {}],
    ['there is nothing to abandon', ['--phase', 'abandon', '--model-artifact-id', '77'], {}],
    ['there is no registry', [], { MODEL_REGISTRY_URL: '' }],
  ])('says that nothing would change where %s', async (_, argv, more) => {
    await publish();
    expect((await run([])).exitCode).toBe(0);
    const { text, json } = await dry(argv, more);
    expect(text).toMatch(/^nothing would change/);
    expect(json).toEqual({ unchanged: true, changes: [] });
  });
});

test('a folder store is registered too', async () => {
  const store = { STORE_DIR: join(home, 'store'), S3_BUCKET: '', S3_ENDPOINT: '' };
  env = { ...env, ...store };
  const uploaded = await publish();
  const { exitCode } = await run(['--model-uri', String(uploaded['model-uri'])]);
  expect(exitCode).toBe(0);
  expect(artifacts()).toMatchObject([{ state: 'LIVE', uri: `file://${join(home, 'store')}/model-data/tiny/${version}/` }]);
  expect(registry.records('version')[0]?.customProperties).toMatchObject({ storage_type: text('folder') });
});

test('what only decorates the record may be missing or broken', async () => {
  const uploaded = await publish();
  s3.fail({ on: /GET .*(README|\/source\/)/, times: 99, answer: { status: 403, body: '<Error><Code>AccessDenied</Code></Error>' } });
  const { exitCode, stderr } = await run(['--model-uri', String(uploaded['model-uri'])]);
  expect(exitCode).toBe(0);
  expect(stderr).toContain('the registry will say less of the model');
  expect(artifacts()).toMatchObject([{ state: 'LIVE' }]);
});

describe('the token', () => {
  beforeEach(async () => {
    await registry.close();
    registry = await new FakeRegistry({ token: 'very-secret-token' }).listen();
    env.MODEL_REGISTRY_URL = registry.origin;
    await publish();
  });
  const leaks = (said: { stdout: string; stderr: string }) => (said.stdout + said.stderr).includes('very-secret-token');

  test('goes along from the environment or a file, and into no log', async () => {
    const debug = ['--log-level', 'trace'];
    const given = await run(debug, { MODEL_REGISTRY_TOKEN: 'very-secret-token' });
    expect(given.exitCode).toBe(0);
    const file = join(home, 'token');
    await writeFile(file, 'very-secret-token\n');
    const fromFile = await run(debug, { KF_PIPELINES_SA_TOKEN_PATH: file });
    expect(fromFile.exitCode).toBe(0);
    expect(leaks(given) || leaks(fromFile)).toBe(false);
  });

  test('when it is missing or wrong is a matter of access', async () => {
    expect((await run([])).exitCode).toBe(4);
    const wrong = await run(['--log-level', 'trace'], { MODEL_REGISTRY_TOKEN: 'wrong-secret-token' });
    expect(wrong.exitCode).toBe(4);
    expect(wrong.stderr).not.toContain('wrong-secret-token');
    expect(wrong.stderr).toContain('AuthorizationPolicy');
  });

  test('is not sent to the store or the Hub', async () => {
    await run(['--phase', 'all'], { MODEL_REGISTRY_TOKEN: 'very-secret-token' });
    for (const { headers } of [...s3.requests, ...hub.requests]) expect(JSON.stringify(headers)).not.toContain('very-secret-token');
  });
});

describe('the built program', () => {
  test('takes credentials from a pod’s identity when there are no keys', async () => {
    await publish();
    const { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, ...rest } = env;
    const agent = await new FakeServer(async (request, response) => {
      request.resume();
      const keys = { AccessKeyId: AWS_ACCESS_KEY_ID, SecretAccessKey: AWS_SECRET_ACCESS_KEY, Token: 'session' };
      response.end(JSON.stringify({ ...keys, Expiration: new Date(Date.now() + 3_600_000).toISOString() }));
    }, 'pod').listen();
    const identity = {
      AWS_CONTAINER_CREDENTIALS_FULL_URI: `${agent.origin}/v1/credentials`,
      AWS_CONTAINER_AUTHORIZATION_TOKEN: 'pod-token',
    };
    const { exitCode, stderr } = await new Program('register-in-model-registry', [], { ...rest, ...identity }).ended;
    expect(stderr).not.toContain('pod-token');
    expect(exitCode).toBe(0);
    expect(agent.requests[0]?.headers.authorization).toBe('pod-token');
    expect(artifacts()).toMatchObject([{ state: 'LIVE' }]);
    await agent.close();
  });

  test('takes keys and region from a profile', async () => {
    await publish();
    const { AWS_ACCESS_KEY_ID: id, AWS_SECRET_ACCESS_KEY: secret, ...rest } = env;
    const [config, credentials] = [join(home, 'config'), join(home, 'credentials')];
    await writeFile(config, '[profile ferry]\nregion = us-east-1\n');
    await writeFile(credentials, `[ferry]\naws_access_key_id = ${id}\naws_secret_access_key = ${secret}\n`);
    const profile = { AWS_PROFILE: 'ferry', AWS_CONFIG_FILE: config, AWS_SHARED_CREDENTIALS_FILE: credentials };
    const { exitCode } = await new Program('register-in-model-registry', [], { ...rest, ...profile }).ended;
    expect(exitCode).toBe(0);
  });

  test('without any credentials says what to give', async () => {
    await publish();
    const { AWS_ACCESS_KEY_ID: _, AWS_SECRET_ACCESS_KEY: __, ...rest } = env;
    const { exitCode, stderr } = await new Program('register-in-model-registry', [], { ...rest, AWS_EC2_METADATA_DISABLED: 'true' }).ended;
    expect(exitCode).toBe(4);
    expect(stderr).toContain('AWS_ACCESS_KEY_ID');
  });

  test('ends by SIGTERM while the registry is silent, and the next run completes it', async () => {
    await publish();
    registry.fail({ on: /^POST .*artifacts/, stallAfter: -1 });
    const program = new Program('register-in-model-registry', [], env);
    await until(() => registry.server.seen(/^POST .*artifacts/).length === 1);
    expect((await program.kill('SIGTERM')).exitCode).toBe(143);
    expect(artifacts()).toEqual([]);
    expect((await run([])).exitCode).toBe(0);
    expect(artifacts()).toMatchObject([{ state: 'LIVE' }]);
  });

  test('is small, because the S3 SDK is not in it', async () => {
    const file = join(dirname(import.meta.dirname), 'dist/register-in-model-registry.cjs');
    expect((await stat(file)).size).toBeLessThan(850_000);
    expect(await readFile(file, 'utf8')).not.toContain('CompleteMultipartUpload');
  });
});
