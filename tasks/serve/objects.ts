import { stringify } from 'yaml';
import type { KubernetesObject } from '../../lib/kubernetes.ts';
import type { Served } from './model.ts';
import { fetchContainer, folderOf, type PodOptions, podIdentity, podVolumes, serverMounts, serverResources } from './pods.ts';

export interface ObjectOptions extends PodOptions {
  namespace: string | undefined;
  labels: Record<string, string>;
  replicas: number;
  serverImage: string;
  serverArgs: readonly string[];
}

export interface KserveOptions {
  /** What KServe is to read: the URI in S3, or the registry's. */
  storageUri: string;
  storageKey: string | undefined;
  runtime: string | undefined;
  modelFormat: string;
}

/** KServe: the storage initializer reads the model, and the runtime serves it. */
export function inferenceService(served: Served, options: ObjectOptions, kserve: KserveOptions): KubernetesObject {
  const { storageUri, storageKey, runtime, modelFormat } = kserve;
  return {
    apiVersion: 'serving.kserve.io/v1beta1',
    kind: 'InferenceService',
    metadata: metadata(served, options),
    spec: {
      predictor: {
        ...(options.serviceAccount === undefined ? {} : { serviceAccountName: options.serviceAccount }),
        minReplicas: options.replicas,
        maxReplicas: options.replicas,
        model: {
          modelFormat: { name: modelFormat },
          ...(runtime === undefined ? {} : { runtime }),
          storageUri,
          ...(storageKey === undefined ? {} : { storage: { key: storageKey } }),
          ...(options.serverArgs.length > 0 ? { args: [...options.serverArgs] } : {}),
          resources: serverResources(options),
        },
      },
    },
  };
}

/** vLLM as a plain Deployment, with a Service before it. */
export function deployment(served: Served, options: ObjectOptions): KubernetesObject[] {
  const selector = { app: served.name };
  const labels = { ...options.labels, ...selector };
  const args = ['--served-model-name', served.modelName, '--port', '8000', ...options.serverArgs];
  const probe = { httpGet: { path: '/health', port: 'http' } };
  const template = {
    metadata: { labels },
    spec: {
      ...podIdentity(options),
      initContainers: [fetchContainer(served, options)],
      containers: [
        {
          name: 'vllm',
          image: options.serverImage,
          command: ['vllm', 'serve', folderOf(served)],
          args,
          // All is there by now: a server that asks the Hub all the same hides that it is not.
          env: [{ name: 'HF_HUB_OFFLINE', value: '1' }],
          ports: [{ name: 'http', containerPort: 8000 }],
          startupProbe: { ...probe, periodSeconds: 10, failureThreshold: 180 },
          readinessProbe: probe,
          resources: serverResources(options),
          securityContext: { allowPrivilegeEscalation: false },
          volumeMounts: serverMounts(),
        },
      ],
      volumes: podVolumes(),
    },
  };
  return [
    {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { ...metadata(served, options), labels },
      spec: { replicas: options.replicas, selector: { matchLabels: selector }, template },
    },
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { ...metadata(served, options), labels },
      spec: { selector, ports: [{ name: 'http', port: 80, targetPort: 'http' }] },
    },
  ];
}

/** Ray Serve LLM: every node fetches before Ray starts; the head only what is no weight. */
export function rayService(served: Served, options: ObjectOptions): KubernetesObject {
  const model = { model_id: served.modelName, model_source: folderOf(served) };
  const application = {
    name: served.name,
    route_prefix: '/',
    import_path: 'ray.serve.llm:build_openai_app',
    args: {
      llm_configs: [
        {
          model_loading_config: model,
          deployment_config: { autoscaling_config: { min_replicas: 1, max_replicas: options.replicas } },
          engine_kwargs: options.gpus > 0 ? { tensor_parallel_size: options.gpus } : {},
          runtime_env: { env_vars: { HF_HUB_OFFLINE: '1' } },
        },
      ],
    },
  };
  const pod = (name: string, select: 'config' | undefined, more: object) => ({
    metadata: { labels: options.labels },
    spec: {
      ...podIdentity(options),
      initContainers: [fetchContainer(served, options, select)],
      containers: [{ name, image: options.serverImage, volumeMounts: serverMounts(), ...more }],
      volumes: podVolumes(),
    },
  });
  const ports = [
    { name: 'gcs-server', containerPort: 6379 },
    { name: 'dashboard', containerPort: 8265 },
    { name: 'client', containerPort: 10001 },
    { name: 'serve', containerPort: 8000 },
  ];
  const headResources = { requests: { cpu: '2', memory: '8Gi' }, limits: { memory: '8Gi' } };
  return {
    apiVersion: 'ray.io/v1',
    kind: 'RayService',
    metadata: metadata(served, options),
    spec: {
      serveConfigV2: stringify({ applications: [application] }),
      rayClusterConfig: {
        // No work on the head: it has no GPU, and no weights.
        headGroupSpec: { rayStartParams: { 'num-cpus': '0' }, template: pod('ray-head', 'config', { ports, resources: headResources }) },
        workerGroupSpecs: [
          {
            groupName: 'gpu',
            replicas: options.replicas,
            minReplicas: 1,
            maxReplicas: options.replicas,
            rayStartParams: {},
            template: pod('ray-worker', undefined, { resources: serverResources(options) }),
          },
        ],
      },
    },
  };
}

function metadata({ name }: Served, { namespace, labels }: ObjectOptions): KubernetesObject['metadata'] {
  return {
    name,
    ...(namespace === undefined ? {} : { namespace }),
    labels,
  };
}
