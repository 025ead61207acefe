import { imageName, securityContext } from '../../lib/render/wiring.ts';
import type { Served } from './model.ts';

/** What pods that fetch need to know. */
export interface PodOptions {
  image: string;
  endpoint: string | undefined;
  region: string | undefined;
  pathStyle: string;
  s3Secret: string;
  modelId: string | undefined;
  hubTokenSecret: string;
  serviceAccount: string | undefined;
  gpus: number;
  memory: string;
}

export const modelPath = '/models';

/** The image of this very version. */
export function defaultImage(version: string): string {
  return `${imageName}:${version}`;
}

interface EnvVar {
  name: string;
  value?: string;
  valueFrom?: object;
}

/** The init container that brings the model from the cache before the server starts; from the Hub where the cache cannot and --model-id is known. */
export function fetchContainer(served: Served, options: PodOptions, select?: 'config'): object {
  const given: Record<string, string | undefined> = {
    MODEL_URI: served.uri,
    MODEL_DIR: folderOf(served),
    MODEL_ID: options.modelId,
    FALLBACK: options.modelId === undefined ? 'none' : 'hub',
    SELECT: select,
    S3_BUCKET: served.bucket,
    S3_ENDPOINT_URL: options.endpoint,
    S3_REGION: options.region,
    S3_PATH_STYLE: options.pathStyle === 'auto' ? undefined : options.pathStyle,
  };
  const env: EnvVar[] = Object.entries(given).flatMap(([name, value]) => (value === undefined ? [] : [{ name, value }]));
  env.push(secret('AWS_ACCESS_KEY_ID', options.s3Secret), secret('AWS_SECRET_ACCESS_KEY', options.s3Secret));
  if (options.modelId !== undefined) env.push(secret('HUB_TOKEN', options.hubTokenSecret, 'HUGGINGFACE_TOKEN'));
  return {
    name: 'fetch',
    image: options.image,
    imagePullPolicy: 'IfNotPresent',
    command: ['/nodejs/bin/node', '/app/fetch.cjs'],
    env,
    resources: { requests: { cpu: '500m', memory: '512Mi' }, limits: { memory: '512Mi' } },
    securityContext,
    volumeMounts: [
      { name: 'models', mountPath: modelPath },
      { name: 'tmp', mountPath: '/tmp' },
    ],
  };
}

/** Of the pod: where the model lies, and what a server shares memory in. */
export function podVolumes(): object[] {
  return [
    { name: 'models', emptyDir: {} },
    { name: 'tmp', emptyDir: {} },
    { name: 'shm', emptyDir: { medium: 'Memory' } },
  ];
}

/** The model as the server sees it, and the shared memory that its processes talk through. */
export function serverMounts(): object[] {
  return [
    { name: 'models', mountPath: modelPath, readOnly: true },
    { name: 'shm', mountPath: '/dev/shm' },
  ];
}

/** Where the model lies in the pod. */
export function folderOf({ name }: Served): string {
  return `${modelPath}/${name}`;
}

/** As whom a pod runs, and what it may write to. */
export function podIdentity({ serviceAccount }: PodOptions): object {
  // So that the image's user can write to the volume.
  const securityContext = { fsGroup: 65532 };
  return serviceAccount === undefined ? { securityContext } : { serviceAccountName: serviceAccount, securityContext };
}

/** GPUs are asked for and limited alike, because Kubernetes wants it so. */
export function serverResources({ gpus, memory }: PodOptions): object {
  const gpu = gpus > 0 ? { 'nvidia.com/gpu': String(gpus) } : {};
  return { requests: { cpu: '2', memory, ...gpu }, limits: { memory, ...gpu } };
}

function secret(name: string, secretName: string, key = name): EnvVar {
  return { name, valueFrom: { secretKeyRef: { name: secretName, key, optional: true } } };
}
