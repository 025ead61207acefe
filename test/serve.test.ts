import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { serve } from '../tasks/serve/step.ts';
import { makeCertificate } from './fakes/certificate.ts';
import { Program, runInProcess } from './fakes/program.ts';
import { FakeServer } from './fakes/server.ts';

const env = { MODEL_URI: 's3://models/model-data/Tiny_Llama.3/0123456789ab/', S3_ENDPOINT: 'http://minio.storage:9000' };
const run = (...argv: string[]) => runInProcess(serve, argv, env);
interface Container {
  name: string;
  image: string;
  command?: string[];
  args?: string[];
  env?: { name: string; value?: string; valueFrom?: unknown }[];
  volumeMounts: { name: string; mountPath: string }[];
}
interface Pod {
  initContainers: Container[];
  containers: Container[];
  volumes: { name: string }[];
}
const valuesOf = ({ env: list = [] }: Container) =>
  Object.fromEntries(list.map(({ name, value, valueFrom }) => [name, value ?? valueFrom]));

/** What must hold of every pod that fetches. */
function expectFetches({ initContainers, containers, volumes }: Pod): void {
  expect(initContainers[0]?.command).toEqual(['/nodejs/bin/node', '/app/fetch.cjs']);
  const mounts = [...initContainers, ...containers].flatMap(({ volumeMounts }) => volumeMounts.map(({ name }) => name));
  expect(volumes.map(({ name }) => name).sort()).toEqual([...new Set(mounts)].sort());
}

describe('serve', () => {
  test('an InferenceService: the URI with its slash, the storage key, and the links to the registry', async () => {
    const argv = ['--storage-key=models-connection', '--registered-model-id=3', '--model-version-id=14', '--service-account=reader'];
    const { exitCode, stdout, results } = await run(...argv);
    expect(exitCode).toBe(0);
    expect(parse(stdout)).toMatchObject({
      apiVersion: 'serving.kserve.io/v1beta1',
      kind: 'InferenceService',
      metadata: {
        name: 'tiny-llama-3',
        labels: { 'modelregistry.kubeflow.org/registered-model-id': '3', 'modelregistry.kubeflow.org/model-version-id': '14' },
      },
      spec: {
        predictor: {
          serviceAccountName: 'reader',
          model: { modelFormat: { name: 'vLLM' }, storageUri: env.MODEL_URI, storage: { key: 'models-connection' } },
        },
      },
    });
    expect(results).toEqual({ kind: 'inferenceservice', name: 'tiny-llama-3', applied: 'false' });
  });

  test('from the registry: a URI that names the version, or a usage error', async () => {
    const { stdout } = await run('--storage-from=model-registry', '--model-name=tiny', '--model-version=v1');
    expect((parse(stdout) as { spec: { predictor: { model: object } } }).spec.predictor.model).toMatchObject({
      storageUri: 'model-registry://tiny/v1',
    });
    expect((await run('--storage-from=model-registry', '--model-name=tiny')).exitCode).toBe(2);
  });

  test('a Deployment: fetch first, then vLLM offline from where fetch put it, and a Service that finds it', async () => {
    const argv = ['--kind=deployment', '--model-id=acme/tiny', '--server-args=["--max-model-len","4096"]', '--gpus=2', '--namespace=llms'];
    const { exitCode, stdout, stderr } = await new Program('serve', argv, env).ended;
    expect(exitCode, stderr).toBe(0);
    const [made, service] = parseAllDocuments(stdout).map((document) => document.toJS()) as [
      { metadata: object; spec: { selector: { matchLabels: object }; template: { metadata: { labels: object }; spec: Pod } } },
      { spec: { selector: object; ports: object[] } },
    ];
    const pod = made.spec.template.spec;
    expectFetches(pod);
    expect(valuesOf(pod.initContainers[0] as Container)).toMatchObject({
      MODEL_URI: env.MODEL_URI,
      MODEL_DIR: '/models/tiny-llama-3',
      MODEL_ID: 'acme/tiny',
      FALLBACK: 'hub',
      S3_ENDPOINT_URL: 'http://minio.storage:9000',
      AWS_SECRET_ACCESS_KEY: { secretKeyRef: { name: 's3-credentials', optional: true } },
    });
    const [vllm] = pod.containers;
    expect([...(vllm?.command ?? []), ...(vllm?.args ?? [])].join(' ')).toBe(
      'vllm serve /models/tiny-llama-3 --served-model-name Tiny_Llama.3 --port 8000 --max-model-len 4096',
    );
    expect(valuesOf(vllm as Container)).toEqual({ HF_HUB_OFFLINE: '1' });
    expect(made.metadata).toMatchObject({ namespace: 'llms' });
    expect(made.spec.template.metadata.labels).toMatchObject(made.spec.selector.matchLabels);
    expect(service.spec.selector).toEqual(made.spec.selector.matchLabels);
  });

  test('a RayService: every node fetches, the head no weights, and the application reads that folder', async () => {
    const { stdout } = await run('--kind=rayservice', '--replicas=3');
    const { spec } = parse(stdout) as {
      spec: {
        serveConfigV2: string;
        rayClusterConfig: {
          headGroupSpec: { template: { spec: Pod } };
          workerGroupSpecs: { maxReplicas: number; template: { spec: Pod } }[];
        };
      };
    };
    const { headGroupSpec, workerGroupSpecs } = spec.rayClusterConfig;
    const pods = [headGroupSpec, ...workerGroupSpecs].map(({ template }) => template.spec);
    for (const pod of pods) expectFetches(pod);
    expect(pods.map(({ initContainers }) => valuesOf(initContainers[0] as Container))).toMatchObject([
      { SELECT: 'config', FALLBACK: 'none' },
      { MODEL_DIR: '/models/tiny-llama-3', FALLBACK: 'none' },
    ]);
    expect(workerGroupSpecs[0]?.maxReplicas).toBe(3);
    expect(parse(spec.serveConfigV2)).toMatchObject({
      applications: [{ args: { llm_configs: [{ model_loading_config: { model_source: '/models/tiny-llama-3' } }] } }],
    });
  });

  test('a command: what vLLM needs to stream, in words that a shell reads back', async () => {
    const { stdout } = await run('--kind=command', '--server-args=["--hf-overrides","{\\"a\\": \\"it\'s\\"}"]');
    expect(stdout).toBe(
      [
        'AWS_ENDPOINT_URL=http://minio.storage:9000 \\',
        'AWS_REGION=us-east-1 \\',
        'RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING=0 \\',
        'AWS_EC2_METADATA_DISABLED=true \\',
        `vllm serve ${env.MODEL_URI} --load-format runai_streamer --served-model-name Tiny_Llama.3 --hf-overrides '{"a": "it'\\''s"}'\n`,
      ].join('\n'),
    );
  });

  test.each([['oci://models/x'], ['s3://models'], ['s3://models/'], ['s3://models/x?endpoint=y']])(
    '%s is no model: exit code 2',
    async (uri) => {
      expect((await run(`--model-uri=${uri}`)).exitCode).toBe(2);
    },
  );

  test.each([
    ['s3://m/models/tiny/', 'tiny'],
    ['s3://m/a/b/9-Lives/v1', 'model-9-lives'],
    [`s3://m/x/${'long-'.repeat(20)}/v1`, `${'long-'.repeat(8)}`.slice(0, -1)],
  ])('%s is named %s', async (uri, name) => {
    expect((await run(`--model-uri=${uri}`)).results.name).toBe(name);
  });
});

const certificate = makeCertificate();
describe.skipIf(certificate === undefined)('serve --apply', () => {
  let api: FakeServer;
  let dir: string;
  let answers: { status: number; message: string }[];
  const bodies: Record<string, unknown>[] = [];
  beforeEach(async () => {
    answers = [];
    bodies.length = 0;
    api = new FakeServer(async (request, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      bodies.push(JSON.parse(Buffer.concat(chunks).toString()) as Record<string, unknown>);
      const { status, message } = answers.shift() ?? { status: 200, message: 'fine' };
      response.writeHead(status).end(JSON.stringify({ kind: 'Status', message }));
    });
    await api.listen({ tls: certificate as { key: string; cert: string } });
    dir = await mkdtemp(join(tmpdir(), 'serve-'));
    await Promise.all([
      writeFile(join(dir, 'token'), 'secret-token\n'),
      writeFile(join(dir, 'ca.crt'), certificate?.cert ?? ''),
      writeFile(join(dir, 'namespace'), 'mine'),
    ]);
  });
  afterEach(async () => {
    await api.close();
    await rm(dir, { recursive: true });
  });
  const apply = (...argv: string[]) =>
    run('--apply=true', `--kubernetes-url=${api.origin}`, `--service-account-dir=${dir}`, '--retries=1', ...argv);

  test('applies as a field manager of its own, into the namespace of the pod, with its token', async () => {
    const { exitCode, results, stdout, stderr } = await apply('--kind=deployment');
    expect(exitCode, stderr).toBe(0);
    expect(api.requests.map(({ method, url }) => `${method} ${url}`)).toEqual([
      'PATCH /apis/apps/v1/namespaces/mine/deployments/tiny-llama-3?fieldManager=modelferry',
      'PATCH /api/v1/namespaces/mine/services/tiny-llama-3?fieldManager=modelferry',
    ]);
    expect(api.requests[0]?.headers).toMatchObject({
      authorization: 'Bearer secret-token',
      'content-type': 'application/apply-patch+yaml',
    });
    expect(bodies.map(({ kind }) => kind)).toEqual(['Deployment', 'Service']);
    expect(results.applied).toBe('true');
    expect(stdout + stderr).not.toContain('secret-token');
  });

  test('a dry run asks the server to check it', async () => {
    expect((await apply('--dry-run=true', '--namespace=yours')).results.applied).toBe('false');
    expect(api.requests[0]?.url).toBe(
      '/apis/serving.kserve.io/v1beta1/namespaces/yours/inferenceservices/tiny-llama-3?fieldManager=modelferry&dryRun=All',
    );
  });

  test.each([
    [403, 4],
    [404, 3],
    [409, 7],
    [422, 2],
  ])('%i ends with exit code %i', async (status, code) => {
    answers = [{ status, message: 'because' }];
    const { exitCode, stderr } = await apply();
    expect([exitCode, api.requests.length]).toEqual([code, 1]);
    expect(stderr).toContain('because');
  });

  test('trouble of the server is tried again', async () => {
    answers = [{ status: 503, message: 'busy' }];
    expect((await apply()).exitCode).toBe(0);
    expect(api.requests.length).toBe(2);
  });

  test('outside of a cluster, and for a command: exit code 2', async () => {
    expect((await apply('--service-account-dir=/nowhere')).exitCode).toBe(2);
    expect((await apply('--kind=command')).exitCode).toBe(2);
  });
});
