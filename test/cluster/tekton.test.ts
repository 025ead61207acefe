import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { Bed, settings } from './bed.ts';
import type { Namespace } from './kubernetes.ts';
import { claim, runPipeline, volumeClaimTemplate } from './runs.ts';

const root = join(import.meta.dirname, '../..');
const credentials = { name: 's3-credentials', secret: { secretName: 's3-credentials' } };

describe('Tekton', () => {
  const bed = new Bed();
  let namespace: Namespace;
  let hub: string;
  beforeAll(async () => {
    await bed.setUp();
    namespace = await bed.namespace('tekton');
    hub = await bed.hub(namespace);
  });
  afterAll(() => bed.tearDown());

  const params = (more: Record<string, string>) => ({
    'hub-url': hub,
    's3-bucket': bed.bucket,
    's3-endpoint-url': settings.s3,
    'model-registry-url': settings.registry,
    ...more,
  });
  const workspaces = [{ name: 'workspace', volumeClaimTemplate }, credentials];

  test('imports a model into the bucket and the registry', async () => {
    const name = `tekton-${bed.id}`;
    const run = await runPipeline(namespace, {
      pipeline: 'import-model',
      params: params({ 'model-id': 'acme/tiny-llama', 'model-name': name }),
      workspaces,
    });
    expect(run.succeeded, run.message).toBe(true);
    const manifest = await bed.expectPublished(run.results['model-uri'] ?? '');
    const registered = await bed.registered(name, manifest.source.commit.slice(0, 12));
    expect(registered?.artifact).toMatchObject({ state: 'LIVE', uri: run.results['model-uri'] });
  });

  test('runs under any uid, in a namespace that enforces the restricted Pod Security Standard', async () => {
    const restricted = await bed.namespace('tekstrict', { level: 'restricted' });
    const podTemplate = {
      securityContext: { runAsUser: 1000660000, runAsNonRoot: true, fsGroup: 1000660000, seccompProfile: { type: 'RuntimeDefault' } },
    };
    const run = await runPipeline(restricted, {
      pipeline: 'import-model',
      params: params({ 'model-id': 'acme/tiny-llama', 'model-name': `tekstrict-${bed.id}` }),
      workspaces,
      spec: { taskRunTemplate: { podTemplate } },
    });
    expect(run.succeeded, run.message).toBe(true);
    await bed.expectPublished(run.results['model-uri'] ?? '');
  });

  test('runs a ModelCar PipelineRun as it is', async () => {
    await namespace.apply(claim('modelcar-storage'));
    // The Hub's address is the cluster's matter there: the tests' Hub comes in as a mirror would.
    await namespace.apply({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'modelferry-env' }, data: { HF_ENDPOINT: hub } });
    const run = await runPipeline(namespace, {
      pipeline: 'modelcar-pipeline',
      apiVersion: 'tekton.dev/v1beta1',
      params: {
        HUGGINGFACE_MODEL: 'acme/tiny-llama',
        MODEL_NAME: `modelcar-${bed.id}`,
        MODEL_VERSION: '1.0',
        MODEL_REGISTRY_URL: settings.registry,
        S3_BUCKET: bed.bucket,
        S3_ENDPOINT_URL: settings.s3,
      },
      workspaces: [{ name: 'shared-workspace', persistentVolumeClaim: { claimName: 'modelcar-storage' } }, credentials],
    });
    expect(run.succeeded, run.message).toBe(true);
    const manifest = await bed.expectPublished(`s3://${bed.bucket}/model-data/modelcar-${bed.id}/1.0/`);
    expect(manifest.files.every(({ path }) => /\.(safetensors|json|txt)$/.test(path))).toBe(true);
    expect((await bed.registered(`modelcar-${bed.id}`, '1.0'))?.artifact.state).toBe('LIVE');
  });

  test('a gated model without a token fails, nothing is published, the reservation is abandoned', async () => {
    const name = `tekgated-${bed.id}`;
    const given = params({ 'model-id': 'acme/gated-llama', 'model-name': name, 'model-version': '1' });
    const run = await runPipeline(namespace, { pipeline: 'import-model', params: given, workspaces });
    expect(run.succeeded).toBe(false);
    expect(await namespace.logs(run.selector)).toContain('"exitCode":4');
    expect((await bed.keys()).filter((key) => key.includes(name))).toEqual([]);
    expect((await bed.registered(name, '1'))?.artifact.state).toBe('ABANDONED');
  });

  test('a Job imports without any engine', async () => {
    const name = `job-${bed.id}`;
    const text = await readFile(join(root, 'workflows/examples/job.yaml'), 'utf8');
    const env: Record<string, string> = {
      MODEL_ID: 'acme/tiny-llama',
      MODEL_NAME: name,
      HF_ENDPOINT: hub,
      S3_BUCKET: bed.bucket,
      S3_ENDPOINT_URL: settings.s3,
      MODEL_REGISTRY_URL: settings.registry,
      WORKSPACE: '/workspace',
    };
    for (const document of parseAllDocuments(text)) {
      if (document.get('kind') === 'Secret') {
        document.setIn(['stringData', 'AWS_ACCESS_KEY_ID'], settings.accessKeyId);
        document.setIn(['stringData', 'AWS_SECRET_ACCESS_KEY'], settings.secretAccessKey);
      }
      if (document.get('kind') === 'Job') {
        const container = ['spec', 'template', 'spec', 'containers', 0];
        document.setIn([...container, 'image'], settings.image);
        document.setIn(
          [...container, 'env'],
          Object.entries(env).map(([key, value]) => ({ name: key, value })),
        );
      }
      await namespace.apply(document.toString());
    }
    const job = await namespace.until('job', 'import-model', ({ status }) =>
      Boolean(status?.succeeded ?? (status?.conditions as object[] | undefined)?.length),
    );
    expect(job.status?.succeeded, await namespace.logs('job-name=import-model')).toBe(1);
    const published = (await bed.keys('.modelferry/manifests/')).find((key) => key.includes(name)) ?? '';
    await bed.expectPublished(`s3://${bed.bucket}/${published.replace('.modelferry/manifests/', '').replace(/\.json$/, '')}/`);
  });
});
