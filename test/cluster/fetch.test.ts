import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { type Files, sha256Of } from '../fakes/content.ts';
import { tinyLlama } from '../fakes/model.ts';
import { applyObjects, type KubeObject, kubectl, listObjects, until } from './kubectl.ts';
import { keysOf } from './read-back.ts';
import { leave } from './report.ts';
import { settings } from './settings.ts';
import { openSite, readExample, type Site } from './site.ts';

interface Container {
  name: string;
  image: string;
  env: { name: string; value: string }[];
  [field: string]: unknown;
}

interface Example extends KubeObject {
  stringData?: Record<string, string>;
  spec?: { template: { spec: { initContainers: Container[]; containers: Container[]; volumes: Record<string, unknown>[] } } };
}

interface Pod extends KubeObject {
  metadata: KubeObject['metadata'] & { name: string };
  status?: { conditions?: { type: string; status: string }[]; initContainerStatuses?: { restartCount: number }[] };
}

const files: Files = tinyLlama();

/** The example, with this cluster's places, and a main container that checks every byte in place of vLLM. */
function deployment(
  site: Site,
  name: string,
  change: (pod: NonNullable<Example['spec']>['template']['spec']) => void = () => {},
): Example[] {
  const objects = parseAllDocuments(readExample('workflows/examples/fetch-deployment.yaml')).map((document) => document.toJS() as Example);
  const given: Record<string, string> = {
    MODEL_ID: 'acme/tiny-llama',
    PROFILE: 'all',
    S3_BUCKET: site.bucket,
    S3_ENDPOINT_URL: settings.s3.url,
  };
  for (const object of objects) {
    if (object.kind === 'Secret') {
      object.stringData = { AWS_ACCESS_KEY_ID: settings.s3.accessKeyId, AWS_SECRET_ACCESS_KEY: settings.s3.secretAccessKey };
    }
    if (object.kind !== 'Deployment' || object.spec === undefined) continue;
    const text = JSON.stringify(object).replaceAll('"app.kubernetes.io/name":"llama"', `"app.kubernetes.io/name":"${name}"`);
    Object.assign(object, JSON.parse(text));
    object.metadata.name = name;
    const pod = object.spec.template.spec;
    const [fetch] = pod.initContainers;
    if (fetch === undefined) throw new Error('the example has no init container');
    fetch.image = settings.image;
    fetch.resources = { requests: { cpu: '100m', memory: '512Mi' }, limits: { memory: '512Mi' } };
    for (const each of fetch.env) each.value = given[each.name] ?? each.value;
    fetch.env.push({ name: 'HF_ENDPOINT', value: 'http://hub:8080' });
    const check = 'cd /models/llama && sha256sum -c /sums/sums && touch /tmp/checked && exec sleep 3600';
    pod.containers = [
      {
        name: 'check',
        image: 'localhost/busybox:1',
        imagePullPolicy: 'IfNotPresent',
        command: ['sh', '-c', check],
        env: [],
        readinessProbe: { exec: { command: ['cat', '/tmp/checked'] }, periodSeconds: 1 },
        securityContext: { ...(fetch.securityContext as object), runAsUser: 65532 },
        volumeMounts: [
          { name: 'models', mountPath: '/models', readOnly: true },
          { name: 'tmp', mountPath: '/tmp' },
          { name: 'sums', mountPath: '/sums' },
        ],
      },
    ];
    pod.volumes.push({ name: 'sums', configMap: { name: 'sums' } });
    change(pod);
  }
  return objects;
}

/** Waits until every replica has checked its files; what each init container gave. */
async function fetched(site: Site, name: string, replicas: number): Promise<Record<string, string>[]> {
  const selector = `app.kubernetes.io/name=${name}`;
  const state = { pods: [] as Pod[] };
  const pods = await until(
    `${name} to be ready`,
    240,
    async () => {
      state.pods = await listObjects<Pod>(site.namespace, 'pods', selector);
      const ready = state.pods.filter(({ status }) => status?.conditions?.some((each) => each.type === 'Ready' && each.status === 'True'));
      return ready.length === replicas ? ready : undefined;
    },
    () => state.pods.map(({ status }) => status),
  );
  const logs = await Promise.all(pods.map(({ metadata }) => kubectl('-n', site.namespace, 'logs', metadata.name, '-c', 'fetch')));
  for (const pod of pods) expect(pod.status?.initContainerStatuses?.[0]?.restartCount).toBe(0);
  return logs.map((log) => JSON.parse(log.split('\n').find((line) => line.startsWith('{"source"')) ?? '{}') as Record<string, string>);
}

describe('a Deployment whose init container fetches', () => {
  let site: Site;
  beforeAll(async () => {
    site = await openSite({ enforce: 'restricted' });
    const sums = [...files].map(([path, content]) => `${sha256Of(content)}  ${path}\n`).join('');
    await applyObjects(site.namespace, [{ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'sums' }, data: { sums } }]);
  });
  afterAll(async () => await site?.close());

  test('brings the model once for a shared volume, fills the bucket, and the next one needs no Hub', async () => {
    await applyObjects(site.namespace, deployment(site, 'first'));
    const first = await fetched(site, 'first', 2);
    expect(first.map(({ source }) => source).sort()).toEqual(['hub', 'local']);
    expect(first.find(({ source }) => source === 'hub')).toMatchObject({ filled: 'true', path: '/models/llama' });
    const uri = first.find(({ source }) => source === 'hub')?.['model-uri'] ?? '';
    const prefix = uri.replace(`s3://${site.bucket}/`, '');
    expect((await keysOf(site.bucket, prefix)).sort()).toEqual([...files.keys()].map((path) => prefix + path).sort());

    // Small clusters have few cores to ask for.
    await kubectl('-n', site.namespace, 'delete', 'pod/hub', 'deployment/first', '--wait');
    const own = (pod: NonNullable<Example['spec']>['template']['spec']) => {
      pod.volumes = pod.volumes.map((volume) => (volume.name === 'models' ? { name: 'models', emptyDir: {} } : volume));
    };
    await applyObjects(site.namespace, deployment(site, 'second', own));
    const second = await fetched(site, 'second', 2);
    expect(second.map(({ source }) => source)).toEqual(['s3', 's3']);
    expect(new Set([...first, ...second].map((each) => each['manifest-sha256'])).size).toBe(1);
    const seconds = [...first, ...second].map(({ source, seconds: took }) => `${source} ${took} s`).join(', ');
    leave(`Deployment with fetch: ${uri} ${files.size} files checked in 4 pods (${seconds})`);
  });
});
