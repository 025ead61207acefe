import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { tinyLlama } from '../fakes/model.ts';
import { Program } from '../fakes/program.ts';
import { readArgo, runArgo } from './argo.ts';
import { applyObjects, getObject, type KubeObject, kubectl, run, until } from './kubectl.ts';
import { expectPublished, keysOf } from './read-back.ts';
import { settings } from './settings.ts';
import { applyFile, openSite, readExample, type Site } from './site.ts';

const root = join(import.meta.dirname, '../..');
/** In the order in which they need each other. */
const graphs = {
  'tenant.yaml': 'modelferry-tenant',
  'huggingface-model.yaml': 'modelferry-huggingface-model',
  'ray-service.yaml': 'modelferry-ray-service',
};
const kinds = ['huggingfacemodels.kro.run', 'rayservices.kro.run', 'modelferrytenants.kro.run'];
const local = {
  AWS_ACCESS_KEY_ID: settings.s3.accessKeyId,
  AWS_SECRET_ACCESS_KEY: settings.s3.secretAccessKey,
  S3_ENDPOINT: settings.s3.localUrl,
};

interface Model extends KubeObject {
  status?: { state?: string; phase?: string; modelUri?: string };
}
interface PodTemplate {
  spec: { initContainers: object[]; volumes: object[]; serviceAccountName: string; securityContext: object };
}

/** Objects of a graph, before the graphs themselves: a graph that is gone leaves their finalizers waiting. */
async function removeGraphs(namespaces: readonly string[]): Promise<void> {
  for (const kind of kinds) {
    for (const namespace of namespaces) await kubectl('-n', namespace, 'delete', kind, '--all', '--timeout=120s').catch(() => {});
  }
  for (const graph of Object.values(graphs).reverse())
    await kubectl('delete', 'resourcegraphdefinition', graph, '--ignore-not-found', '--timeout=60s');
  for (const kind of kinds) await kubectl('delete', 'crd', kind, '--ignore-not-found', '--timeout=60s');
}

interface GraphState {
  state?: string;
  conditions?: { type: string; status: string }[];
}
const states = new Map<string, GraphState>();
async function stateOf(graph: string): Promise<GraphState> {
  const found = await getObject<KubeObject & { status?: GraphState }>('default', 'resourcegraphdefinition', graph);
  states.set(graph, found?.status ?? {});
  return found?.status ?? {};
}

let site: Site;
/** The model that the list brings, and that is served then. */
let brought: string;
beforeAll(async () => {
  site = await openSite();
  for (const [file, graph] of Object.entries(graphs)) {
    await kubectl('apply', '-f', join(root, 'workflows/kro', file));
    await until(
      `graph ${graph}`,
      120,
      async () => (await stateOf(graph)).state === 'Active' || undefined,
      () => states.get(graph),
    );
  }
});
afterAll(async () => {
  if (site && !settings.keep) await removeGraphs([site.namespace]);
  await site?.close();
});

const model = async (name: string) => await getObject<Model>(site.namespace, 'huggingfacemodels.kro.run', name);
const exists = async (namespace: string, kind: string, name: string) => (await getObject(namespace, kind, name)) !== undefined;

describe.concurrent('platform files', () => {
  test.each(Object.values(graphs))('kro accepts %s', async (graph) => {
    expect((await stateOf(graph)).conditions).toContainEqual(expect.objectContaining({ type: 'GraphAccepted', status: 'True' }));
  });

  test('a list makes two models that share a namespace and an account; both are imported, and one goes without the other', async () => {
    await applyFile(site.namespace, 'workflows/kro/from-values.yaml');
    const shared = { namespace: site.namespace, serviceAccount: 'shared', s3Bucket: site.bucket };
    await applyObjects(site.namespace, [
      {
        apiVersion: 'kro.run/v1alpha1',
        kind: 'ModelFerryTenant',
        metadata: { name: 'shared' },
        spec: { ...shared, accountId: '111122223333', clusterName: 'test', createNamespace: false },
      },
    ]);
    await until('the tenant', 60, async () => (await exists(site.namespace, 'rolebinding', 'shared-workflows')) || undefined);
    const names = ['kro-one', 'kro-two'].map(site.unique) as [string, string];
    const models = [
      { name: names[0], modelName: names[0], modelId: 'acme/tiny-llama' },
      { name: names[1], modelName: names[1], modelId: 'acme/junk-llama' },
    ];
    const common = { ...shared, s3EndpointUrl: settings.s3.url, storageSize: '1Gi' };
    const parameters = { models: JSON.stringify(models), common: JSON.stringify(common) };
    brought = names[0];
    const list = await runArgo(site, { template: 'huggingface-models', parameters });
    expect(list.phase, list.watch.logs).toBe('Succeeded');
    for (const [index, files] of [tinyLlama(), tinyLlama({ seed: 5, junk: true })].entries()) {
      const name = names[index] ?? '';
      let last: Model | undefined;
      await until(
        `${name} to be imported`,
        300,
        async () => {
          last = await model(name);
          expect(last?.status?.phase).not.toMatch(/Failed|Error/);
          return last?.status?.phase === 'Succeeded' && last.status.modelUri !== undefined ? true : undefined;
        },
        () => last?.status,
      );
      expect(last?.status?.modelUri).toBe(`s3://${site.bucket}/models/${name}/`);
      const { results } = await readArgo(site, `${name}-download`);
      await expectPublished('kro HuggingFaceModel', results, { name, files, registered: false });
    }
    const before = (await getObject<KubeObject & { metadata: { uid: string } }>(site.namespace, 'workflow', `${names[1]}-download`))
      ?.metadata.uid;
    await kubectl('-n', site.namespace, 'delete', 'huggingfacemodels.kro.run', names[0], '--timeout=120s');
    expect(await exists(site.namespace, 'workflow', `${names[0]}-download`)).toBe(false);
    const after = await getObject<KubeObject & { metadata: { uid: string } }>(site.namespace, 'workflow', `${names[1]}-download`);
    expect(after?.metadata.uid).toBe(before);
    expect((await model(names[1]))?.status?.phase).toBe('Succeeded');
    expect(await exists(site.namespace, 'serviceaccount', 'shared')).toBe(true);
    for (const name of names) expect((await keysOf(site.bucket, `models/${name}/`)).length).toBeGreaterThan(0);
  });

  test('createNamespace and createIdentity make a tenant, and it goes with the model', async () => {
    const name = site.unique('kro-tenant');
    await applyObjects(site.namespace, [
      {
        apiVersion: 'kro.run/v1alpha1',
        kind: 'HuggingFaceModel',
        metadata: { name },
        spec: {
          modelId: 'acme/tiny-llama',
          namespace: name,
          serviceAccount: 'importer',
          s3Bucket: site.bucket,
          accountId: '111122223333',
          region: 'eu-central-1',
          clusterName: 'test',
          createNamespace: true,
          createIdentity: true,
        },
      },
    ]);
    const parts: [string, string][] = [
      ['serviceaccount', 'importer'],
      ['rolebinding', 'importer-workflows'],
      ['policies.iam.services.k8s.aws', 'importer-models'],
      ['roles.iam.services.k8s.aws', 'importer-models'],
      ['podidentityassociations.eks.services.k8s.aws', 'importer-models'],
      ['workflow', `${name}-download`],
    ];
    for (const [kind, part] of parts) await until(`${kind} ${part}`, 90, async () => (await exists(name, kind, part)) || undefined);
    const association = await getObject<KubeObject & { spec: object }>(
      name,
      'podidentityassociations.eks.services.k8s.aws',
      'importer-models',
    );
    expect(association?.spec).toMatchObject({ clusterName: 'test', namespace: name, serviceAccount: 'importer' });
    await kubectl('-n', site.namespace, 'delete', 'huggingfacemodels.kro.run', name, '--timeout=180s');
    await until(`namespace ${name} to go`, 90, async () => !(await exists('default', 'namespace', name)) || undefined);
  });

  test('the rendered Backstage skeleton, the examples and the plain Ray service are valid', async () => {
    const skeleton = readFileSync(join(root, 'workflows/backstage/skeleton/model.yaml'), 'utf8');
    const rendered = skeleton.replace(/\$\{\{ values\.(\w+)( \| dump)? \}\}/g, (_, name: string, dump?: string) =>
      name.startsWith('create') ? 'true' : dump ? '"some-words"' : 'some-name',
    );
    const check = (text: string) => run('kubectl', ['-n', site.namespace, 'apply', '--dry-run=server', '-f', '-'], text);
    await check(rendered);
    await check(readExample('workflows/kro/example.yaml'));
    expect(await kubectl('-n', site.namespace, 'apply', '--dry-run=server', '-k', join(root, 'workflows/ray'))).toContain('tiny-llama');
  });

  const uri = () => `s3://${site.bucket}/models/tiny/`;

  test.each(['inferenceservice', 'rayservice', 'deployment'])('serve --kind %s is valid to the real definitions', async (kind) => {
    const argv = [
      '--kind',
      kind,
      '--model-uri',
      uri(),
      '--storage-key',
      'models',
      '--registered-model-id',
      '1',
      '--model-id',
      'acme/tiny-llama',
    ];
    const { exitCode, stdout, stderr } = await new Program('serve', argv).ended;
    expect(exitCode, stderr).toBe(0);
    await run('kubectl', ['-n', site.namespace, 'apply', '--server-side', '--dry-run=server', '-f', '-'], stdout);
  });

  test('serve --apply in a pod makes the object, with the few rights that this needs; without them it is denied', async () => {
    await applyObjects(site.namespace, [
      { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'server' } },
      {
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'Role',
        metadata: { name: 'server' },
        rules: [{ apiGroups: ['serving.kserve.io'], resources: ['inferenceservices'], verbs: ['create', 'patch'] }],
      },
      {
        apiVersion: 'rbac.authorization.k8s.io/v1',
        kind: 'RoleBinding',
        metadata: { name: 'server' },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'server' },
        subjects: [{ kind: 'ServiceAccount', name: 'server' }],
      },
      ...['server', 'default'].map((account) => ({
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: `serve-${account}` },
        spec: {
          restartPolicy: 'Never',
          serviceAccountName: account,
          containers: [
            {
              name: 'main',
              image: settings.image,
              command: ['/nodejs/bin/node', '/app/serve.cjs'],
              args: ['--apply', 'true', '--model-uri', uri(), '--service-name', 'applied', '--model-version-id', '7'],
            },
          ],
        },
      })),
    ]);
    const codeOf = async (account: string) =>
      await until(`the pod of ${account}`, 90, async () => {
        const found = await getObject<KubeObject & { status?: { containerStatuses?: { state: { terminated?: { exitCode: number } } }[] } }>(
          site.namespace,
          'pod',
          `serve-${account}`,
        );
        return found?.status?.containerStatuses?.[0]?.state.terminated?.exitCode;
      });
    expect(await codeOf('server'), await kubectl('-n', site.namespace, 'logs', 'serve-server').catch(String)).toBe(0);
    expect(await codeOf('default')).toBe(4);
    const service = await getObject<KubeObject & { spec: object }>(site.namespace, 'inferenceservices.serving.kserve.io', 'applied');
    expect(service?.metadata.labels).toMatchObject({ 'modelregistry.kubeflow.org/model-version-id': '7' });
    expect(service?.spec).toMatchObject({ predictor: { model: { storageUri: uri() } } });
  });

  test('bootstrap makes it ready, as far as it can be, and again; doctor tells what it can', async () => {
    const bucket = `${site.bucket}-bootstrapped`;
    for (const made of ['done', 'already']) {
      const { exitCode, stdout, stderr } = await new Program('bootstrap', ['--s3-bucket', bucket], local).ended;
      expect(exitCode, stderr).toBe(0);
      expect(JSON.parse(stdout)).toMatchObject({ bucket: made });
    }
    const { exitCode, stdout, stderr } = await new Program('doctor', ['--s3-bucket', bucket], local).ended;
    expect(exitCode, stderr).toBe(0);
    const { checks } = JSON.parse(stdout) as { checks: { check: string; verdict: string }[] };
    expect(Object.fromEntries(checks.map(({ check, verdict }) => [check, verdict]))).toMatchObject({
      'read-write': 'yes',
      range: 'yes',
      multipart: 'yes',
    });
    expect(await keysOf(bucket)).toEqual([]);
  });
});

describe('what kro brought', () => {
  test.skipIf(!existsSync(join(root, 'dist/fetch.cjs')))(
    'a RayService with useModelCache: its role may read, and its pods find the model that they fetch',
    async () => {
      const name = site.unique('ray');
      await applyObjects(site.namespace, [
        {
          apiVersion: 'kro.run/v1alpha1',
          kind: 'RayService',
          metadata: { name },
          spec: {
            modelId: 'acme/not-on-the-hub',
            modelName: brought,
            useModelCache: true,
            modelCacheBucket: site.bucket,
            s3EndpointUrl: settings.s3.url,
            namespace: site.namespace,
            fetchImage: settings.image,
            accountId: '111122223333',
            clusterName: 'test',
          },
        },
      ]);
      interface RayService extends KubeObject {
        spec: { serveConfigV2: string; rayClusterConfig: { workerGroupSpecs: [{ template: PodTemplate }] } };
      }
      const service = await until(
        'the RayService',
        60,
        async () => await getObject<RayService>(site.namespace, 'rayservices.ray.io', name),
      );
      expect(await exists(site.namespace, 'podidentityassociations.eks.services.k8s.aws', 'ray-models-models')).toBe(true);
      const { model_source } = (
        parse(service.spec.serveConfigV2) as {
          applications: { args: { llm_configs: { model_loading_config: { model_source: string } }[] } }[];
        }
      ).applications[0]?.args.llm_configs[0]?.model_loading_config ?? { model_source: '' };
      // Nothing acts on a RayService here: what its worker would begin with runs as a pod, and lists what the server would read.
      const { initContainers, volumes, serviceAccountName, securityContext } =
        service.spec.rayClusterConfig.workerGroupSpecs[0].template.spec;
      const script = `const fs = require('node:fs'); console.log(JSON.stringify(fs.readdirSync('${model_source}', { recursive: true })))`;
      const container = {
        name: 'main',
        image: settings.image,
        command: ['/nodejs/bin/node', '-e', script],
        volumeMounts: [{ name: 'models', mountPath: '/models', readOnly: true }],
      };
      const spec = { restartPolicy: 'Never', serviceAccountName, securityContext, initContainers, containers: [container], volumes };
      await applyObjects(site.namespace, [{ apiVersion: 'v1', kind: 'Pod', metadata: { name }, spec }]);
      const pod = await until('the pod', 180, async () => {
        const found = await getObject<KubeObject & { status?: { phase?: string } }>(site.namespace, 'pod', name);
        return /Succeeded|Failed/.test(found?.status?.phase ?? '') ? found : undefined;
      });
      const logs = await kubectl('-n', site.namespace, 'logs', name, '--all-containers');
      expect(pod.status?.phase, logs).toBe('Succeeded');
      const listed = JSON.parse(await kubectl('-n', site.namespace, 'logs', name, '-c', 'main')) as string[];
      expect(listed).toEqual(expect.arrayContaining([...tinyLlama().keys()]));
    },
  );
});
