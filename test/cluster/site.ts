import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { leaksIn } from '../fakes/leaks.ts';
import { applyObjects, getObject, type KubeObject, kubectl, run, until } from './kubectl.ts';
import { givenSecrets } from './pods.ts';
import { makeBucket } from './read-back.ts';
import { settings } from './settings.ts';

const root = join(import.meta.dirname, '../..');

export interface SiteOptions {
  /** The Pod Security Standard that the namespace enforces. */
  enforce?: 'restricted';
  /** With the fsGroup that plain Kubernetes needs; default true. */
  plainKubernetes?: boolean;
  /** More components of workflows/, by the names of their folders. */
  components?: readonly string[];
}

/** A namespace with the wiring installed as a user would, a fake Hub, and credentials. */
export interface Site {
  namespace: string;
  bucket: string;
  /** For names that must not meet those of other runs: the registry keeps all for ever. */
  unique: (name: string) => string;
  close: () => Promise<void>;
}

const locked = {
  runAsNonRoot: true,
  allowPrivilegeEscalation: false,
  capabilities: { drop: ['ALL'] },
  seccompProfile: { type: 'RuntimeDefault' },
};

export async function openSite({ enforce, plainKubernetes = true, components = [] }: SiteOptions = {}): Promise<Site> {
  const id = randomBytes(3).toString('hex');
  const namespace = `modelferry-test-${id}`;
  const bucket = namespace;
  const labels = enforce ? { 'pod-security.kubernetes.io/enforce': enforce } : {};
  await applyObjects('default', [{ apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace, labels } }]);
  await makeBucket(bucket);
  await install(namespace, plainKubernetes ? ['plain-kubernetes', ...components] : components);
  await applyObjects(namespace, [
    {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: 's3-credentials' },
      stringData: { AWS_ACCESS_KEY_ID: settings.s3.accessKeyId, AWS_SECRET_ACCESS_KEY: settings.s3.secretAccessKey },
    },
    { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'modelferry-env' }, data: { HF_ENDPOINT: 'http://hub:8080' } },
  ]);
  await startHub(namespace, 'hub');
  return {
    namespace,
    bucket,
    unique: (name) => `${name}-${id}`,
    close: async () => {
      const leaks = await leaksInObjects(namespace);
      if (leaks.length > 0) throw new Error(`objects in ${namespace} hold secrets: ${leaks.join(', ')}`);
      if (settings.keep) return;
      await kubectl('delete', 'namespace', namespace, '--timeout=240s');
      if (settings.freeVolumesCommand) await run('bash', ['-c', settings.freeVolumesCommand]);
    },
  };
}

/** A fake Hub that goes wrong as `faults` say (test/fakes/hub-main.ts); its address in the namespace. */
export async function startHub(
  namespace: string,
  name: string,
  faults: readonly object[] = [],
  more: Record<string, string> = {},
): Promise<string> {
  const url = (port: number) => `http://${name}:${port}`;
  const env = { PUBLIC_CDN_URL: url(8081), FAULTS: JSON.stringify(faults), ...more };
  await applyObjects(namespace, [
    {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name, labels: { app: name } },
      spec: {
        containers: [
          {
            name: 'hub',
            image: settings.hubImage,
            imagePullPolicy: 'IfNotPresent',
            command: ['/nodejs/bin/node', '/app/fake-hub.cjs'],
            env: Object.entries(env).map(([key, value]) => ({ name: key, value })),
            securityContext: locked,
            readinessProbe: { tcpSocket: { port: 8081 }, periodSeconds: 1 },
          },
        ],
      },
    },
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name },
      spec: { selector: { app: name }, ports: [8080, 8081].map((port) => ({ name: `p${port}`, port })) },
    },
  ]);
  await kubectl('-n', namespace, 'wait', `pod/${name}`, '--for=condition=Ready', '--timeout=120s');
  return url(8080);
}

/** What engines and Kubernetes keep of the runs, and show to whoever may look: specs, parameters, results, messages, events. */
const shown =
  'pods,events,configmaps,persistentvolumeclaims,jobs,workflows.argoproj.io,workflowtaskresults.argoproj.io,pipelineruns.tekton.dev,taskruns.tekton.dev';

async function leaksInObjects(namespace: string): Promise<string[]> {
  return leaksIn(await kubectl('-n', namespace, 'get', shown, '-o', 'json'), [...givenSecrets]);
}

/** The Secret that gated models need. */
export async function giveToken(namespace: string, name: string, token: string): Promise<void> {
  givenSecrets.add(token);
  await applyObjects(namespace, [{ apiVersion: 'v1', kind: 'Secret', metadata: { name }, stringData: { HUGGINGFACE_TOKEN: token } }]);
}

/** `kubectl apply -k` of an overlay on both folders that only says which namespace and image. */
async function install(namespace: string, components: readonly string[]): Promise<void> {
  const dir = join(root, '.cache/cluster', namespace);
  const at = (path: string) => relative(dir, join(root, path));
  const [, name, tag] = /^(.*?)(?::([^/]+))?$/.exec(settings.image) ?? [];
  const overlay = {
    apiVersion: 'kustomize.config.k8s.io/v1beta1',
    kind: 'Kustomization',
    namespace,
    resources: [at('workflows'), at('tekton')],
    components: components.map((component) => at(`workflows/${component}`)),
    transformers: ['image.yaml'],
  };
  const image = {
    apiVersion: 'builtin',
    kind: 'ImageTagTransformer',
    metadata: { name: 'image' },
    imageTag: { name: 'localhost/modelferry', newName: name, newTag: tag ?? 'latest' },
    fieldSpecs: [{ path: 'spec/templates/container/image' }, { path: 'spec/steps/image' }],
  };
  mkdirSync(dir, { recursive: true });
  try {
    writeFileSync(join(dir, 'kustomization.yaml'), JSON.stringify(overlay));
    writeFileSync(join(dir, 'image.yaml'), JSON.stringify(image));
    // Tekton's webhook may be busy right after others were deleted.
    await until('the wiring to be installed', 60, async () => {
      return await kubectl('apply', '-k', dir).catch((error: Error) => {
        if (!/webhook|timeout|connection refused/.test(error.message)) throw error;
        return undefined;
      });
    });
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** A claim of its own, as a user makes one for a pipeline that expects it. */
export async function makeClaim(namespace: string, name: string): Promise<void> {
  const spec = { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } };
  await applyObjects(namespace, [{ apiVersion: 'v1', kind: 'PersistentVolumeClaim', metadata: { name }, spec }]);
}

/** True when the claim is not there, or is only waiting for its pods to be cleaned up. */
export async function claimIsGoing(namespace: string, name: string): Promise<boolean> {
  const claim = await getObject<KubeObject & { metadata: { deletionTimestamp?: string } }>(namespace, 'persistentvolumeclaim', name);
  return claim === undefined || claim.metadata.deletionTimestamp !== undefined;
}

/** `kubectl apply -f` of a file of the repository, with our image in the place of the one that it names. */
export async function applyFile(namespace: string, file: string): Promise<void> {
  await run('kubectl', ['-n', namespace, 'apply', '-f', '-'], readExample(file));
}

/** An example, with our image in the place of the one that it names. */
export function readExample(file: string): string {
  return readFileSync(join(root, file), 'utf8').replaceAll(/localhost\/modelferry:\S+/g, settings.image);
}
