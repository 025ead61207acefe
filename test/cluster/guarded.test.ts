import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { tinyLlama } from '../fakes/model.ts';
import { commonParameters, runArgo } from './argo.ts';
import { applyObjects, getObject, type KubeObject, kubectl, listObjects, until } from './kubectl.ts';
import { PodWatch } from './pods.ts';
import { expectPublished } from './read-back.ts';
import { settings } from './settings.ts';
import { openSite, readExample, type Site } from './site.ts';
import { params, runTekton, s3Credentials, volume } from './tekton.ts';

function pipelineRun(site: Site, name: string, podTemplate: object): object {
  return {
    pipelineRef: { name: 'import-model' },
    taskRunTemplate: { podTemplate },
    params: params({
      's3-bucket': site.bucket,
      's3-endpoint-url': settings.s3.url,
      'model-registry-url': settings.registry.url,
      'model-id': 'acme/tiny-llama',
      'model-name': name,
    }),
    workspaces: [volume('workspace'), s3Credentials],
  };
}

describe('a namespace that enforces the restricted Pod Security Standard', () => {
  let site: Site;
  beforeAll(async () => {
    site = await openSite({ enforce: 'restricted' });
  });
  afterAll(async () => await site?.close());

  test.concurrent('takes the Argo workflow', async () => {
    const name = site.unique('restricted-argo');
    const run = await runArgo(site, { parameters: { ...commonParameters(site), 'model-id': 'acme/tiny-llama', 'model-name': name } });
    expect(run.phase, run.watch.logs).toBe('Succeeded');
    await expectPublished('Argo import-model, restricted', run.results, { name, files: tinyLlama() });
  });

  test.concurrent('takes the Tekton pipeline', async () => {
    const name = site.unique('restricted-tekton');
    const run = await runTekton(
      site,
      pipelineRun(site, name, { automountServiceAccountToken: false, securityContext: { fsGroup: 65532 } }),
    );
    expect(run.succeeded, `${run.message}\n${run.watch.logs}`).toBe(true);
    await expectPublished('Tekton import-model, restricted', run.results, { name, files: tinyLlama() });
    const pods = await listObjects<Pod>(site.namespace, 'pods', `tekton.dev/pipelineRun=${run.name},tekton.dev/pipelineTask`);
    expect(pods.length).toBe(5);
    // What Kubernetes mounts for a service account has that name.
    for (const { spec } of pods) expect(spec.volumes.filter((each) => each.name.startsWith('kube-api-access'))).toEqual([]);
  });

  test('takes the network policy', async () => {
    await kubectl(
      '-n',
      site.namespace,
      'apply',
      '--dry-run=server',
      '-f',
      join(import.meta.dirname, '../../workflows/examples/network-policy.yaml'),
    );
  });

  test.concurrent('takes the Job', async () => {
    const name = site.unique('restricted-job');
    const objects = parseAllDocuments(readExample('workflows/examples/job.yaml')).map((document) => document.toJS() as Example);
    const given: Record<string, string> = {
      MODEL_ID: 'acme/tiny-llama',
      S3_BUCKET: site.bucket,
      S3_ENDPOINT_URL: settings.s3.url,
      MODEL_REGISTRY_URL: settings.registry.url,
      WORKSPACE: '/workspace',
    };
    for (const object of objects) {
      if (object.kind === 'Secret')
        object.stringData = { AWS_ACCESS_KEY_ID: settings.s3.accessKeyId, AWS_SECRET_ACCESS_KEY: settings.s3.secretAccessKey };
      if (object.kind !== 'Job') continue;
      const container = object.spec.template.spec.containers[0];
      expect(container?.env.map((each) => each.name).sort()).toEqual(expect.arrayContaining(Object.keys(given).sort()));
      if (container) {
        const values = { ...given, MODEL_NAME: name, HF_ENDPOINT: 'http://hub:8080' };
        const own = container.env.filter((each) => !(each.name in values));
        container.env = [...own, ...Object.entries(values).map(([key, value]) => ({ name: key, value }))];
      }
    }
    await applyObjects(site.namespace, objects);
    const watch = new PodWatch(site.namespace, 'batch.kubernetes.io/job-name=import-model');
    const job = await until('the Job', 600, async () => {
      await watch.look();
      const found = await getObject<Job>(site.namespace, 'job', 'import-model');
      return found?.status?.conditions?.some(({ type, status }) => ['Complete', 'Failed'].includes(type) && status === 'True')
        ? found
        : undefined;
    });
    await watch.look();
    expect(job.status?.succeeded, watch.logs).toBe(1);
    const results = JSON.parse(
      watch.logs.split('\n').find((line) => line.startsWith('{"') && line.includes('"model-uri"')) ?? '{}',
    ) as Record<string, string>;
    await expectPublished('Job', results, { name, files: tinyLlama() });
  });
});

describe('a uid of the cluster, as OpenShift gives', () => {
  const uid = { runAsUser: 1_000_660_000, runAsGroup: 1_000_660_000, fsGroup: 1_000_660_000 };
  let site: Site;
  beforeAll(async () => {
    site = await openSite({ plainKubernetes: false });
  });
  afterAll(async () => await site?.close());

  test.concurrent('runs the Argo workflow', async () => {
    const name = site.unique('uid-argo');
    const parameters = { ...commonParameters(site), 'model-id': 'acme/tiny-llama', 'model-name': name };
    const run = await runArgo(site, { parameters, securityContext: uid });
    expect(run.phase, run.watch.logs).toBe('Succeeded');
    await expectPublished('Argo import-model, uid 1000660000', run.results, { name, files: tinyLlama() });
  });

  test.concurrent('runs the Tekton pipeline', async () => {
    const name = site.unique('uid-tekton');
    const run = await runTekton(site, pipelineRun(site, name, { securityContext: uid }));
    expect(run.succeeded, `${run.message}\n${run.watch.logs}`).toBe(true);
    await expectPublished('Tekton import-model, uid 1000660000', run.results, { name, files: tinyLlama() });
  });
});

interface Pod extends KubeObject {
  spec: { volumes: { name: string }[] };
}

interface Job extends KubeObject {
  status?: { succeeded?: number; conditions?: { type: string; status: string }[] };
}

interface Example {
  kind: string;
  stringData?: Record<string, string>;
  spec: { template: { spec: { containers: { env: { name: string; value?: string }[] }[] } } };
}
