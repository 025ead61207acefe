import { stringify } from 'yaml';
import { defineStep, type StepContext } from '../../lib/define-step.ts';
import { StepError } from '../../lib/errors.ts';
import { applyObject, inCluster, type KubernetesObject } from '../../lib/kubernetes.ts';
import { group, schema, type ValuesOf } from '../../lib/params/declare.ts';
import { existingParams } from '../../lib/params/groups/existing.ts';
import { modelParams, namingParams } from '../../lib/params/groups/model.ts';
import { registryParams } from '../../lib/params/groups/registry.ts';
import { s3Params } from '../../lib/params/groups/store.ts';
import { requestParams } from '../../lib/params/groups/transfer.ts';
import { labelsOf } from '../../lib/render/wiring.ts';
import { s3Settings } from '../../lib/s3-settings.ts';
import { version } from '../../lib/version.ts';
import { vllmCommand } from './command.ts';
import { type Served, servedOf } from './model.ts';
import { deployment, inferenceService, type ObjectOptions, rayService } from './objects.ts';
import { defaultImage } from './pods.ts';

const serverImages = { deployment: 'vllm/vllm-openai:v0.11.0', rayservice: 'rayproject/ray-llm:2.46.0-py311-cu124' } as const;
const label = '^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$';

const params = schema(
  {
    kind: {
      type: 'string',
      enum: ['inferenceservice', 'rayservice', 'deployment', 'command'],
      description: 'For KServe, Ray, plain Kubernetes with vLLM, or the vLLM command that streams.',
      default: 'inferenceservice',
    },
    modelUri: existingParams.modelUri,
    ...namingParams,
    modelId: modelParams.modelId,
    ...group('Object', {
      serviceName: {
        type: 'string',
        pattern: label,
        'x-shape': 'a name of small letters, digits and dashes, a letter first, 63 at most',
        description: "Name of the object (default: made of the model's).",
      },
      namespace: {
        type: 'string',
        pattern: '^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$',
        'x-shape': 'a name of small letters, digits and dashes, 63 at most',
        description: 'Namespace (default: what applies it says).',
      },
      serviceAccount: { type: 'string', description: 'Service account of its pods.' },
      replicas: { type: 'integer', minimum: 1, maximum: 1000, description: 'Servers at once.', default: 1 },
      gpus: { type: 'integer', minimum: 0, maximum: 64, description: 'GPUs of one server.', default: 1 },
      serverMemory: {
        type: 'string',
        pattern: '^\\d+(\\.\\d+)?([kMGTP]i?)?$',
        'x-shape': 'a quantity such as 32Gi',
        description: 'Memory of one server, as Kubernetes writes it.',
        default: '32Gi',
      },
      serverImage: { type: 'string', description: 'Image of the server (default: a vLLM or a Ray LLM one).' },
      serverArgs: { type: 'array', items: { type: 'string' }, description: "More of vLLM's arguments: a JSON array.", default: [] },
      fetchImage: { type: 'string', description: 'Image of modelferry, for the fetch step.', default: defaultImage(version) },
      s3CredentialsFrom: {
        type: 'string',
        description: 'Secret with the keys for the fetch step (may be absent).',
        default: 's3-credentials',
      },
      hubCredentialsFrom: {
        type: 'string',
        description: 'Secret with HUGGINGFACE_TOKEN for the fetch step (may be absent).',
        default: 'huggingface-secret',
      },
    }),
    ...group('KServe', {
      storageFrom: {
        type: 'string',
        enum: ['s3', 'model-registry'],
        description: 'What KServe reads: the URI, or what the registry says of the name and version.',
        default: 's3',
      },
      runtime: { type: 'string', description: 'ServingRuntime (default: the one for the format).' },
      modelFormat: { type: 'string', description: 'Format that the runtime is found by.', default: 'vLLM' },
      storageKey: registryParams.storageKey,
      registeredModelId: {
        type: 'string',
        pattern: '^[1-9][0-9]*$',
        'x-shape': 'an id, a number',
        description: "Label that links it to the registry: register's result.",
      },
      modelVersionId: {
        type: 'string',
        pattern: '^[1-9][0-9]*$',
        'x-shape': 'an id, a number',
        description: "Label that links it to the registry: register's result.",
      },
      registryLabelPrefix: {
        type: 'string',
        description: "Prefix of those labels, as the registry's controller knows it.",
        default: 'modelregistry.kubeflow.org',
      },
    }),
    s3EndpointUrl: s3Params.s3EndpointUrl,
    s3Region: s3Params.s3Region,
    s3PathStyle: s3Params.s3PathStyle,
    ...group('Applying', {
      apply: { type: 'boolean', description: "Apply it with the pod's service account, instead of printing it.", default: false },
      kubernetesUrl: {
        type: 'string',
        pattern: '^https://',
        'x-shape': 'an address such as https://kubernetes.default.svc',
        description: 'Address of the API server.',
        default: 'https://kubernetes.default.svc',
      },
      serviceAccountDir: {
        type: 'string',
        description: 'Where Kubernetes mounts the token.',
        default: '/var/run/secrets/kubernetes.io/serviceaccount',
      },
    }),
    ...requestParams,
  },
  ['modelUri'],
);

type Params = ValuesOf<typeof params>;

export const serve = defineStep({
  name: 'serve',
  summary: 'Prints or applies what serves a published model: KServe, Ray, a Deployment, a command.',
  product: 'text',
  params,
  results: {
    kind: 'Kind of the object.',
    name: 'Its name.',
    applied: 'true when it was applied, and not only printed.',
  },
  async run(params, ctx) {
    const served = servedOf(params);
    const place = placeOf(served, params);
    if (params.kind === 'command') {
      if (params.apply) throw new StepError('usage', 'failed to read parameters: --apply goes with a kind of object, not with a command');
      ctx.print(vllmCommand(served, { ...place, serverArgs: params.serverArgs }));
    } else {
      const objects = objectsOf(served, params, place);
      if (params.apply) await apply(objects, params, ctx);
      else ctx.print(objects.map((object) => stringify(object, { lineWidth: 0 })).join('---\n'));
    }
    return { kind: params.kind, name: served.name, applied: String(params.apply && !ctx.dryRun) };
  },
});

/** Where the bucket is, by the same rules as ours; throws `usage` when it cannot be. */
function placeOf({ bucket }: Served, params: Params) {
  const unused = { keyTemplate: '{name}', controlPrefix: '.modelferry', s3Checksum: 'auto', s3Tags: [] } as const;
  const { endpoint, region, pathStyle } = s3Settings({ ...unused, s3Tags: [], s3Bucket: bucket, ...pick(params) });
  return { endpoint, region, pathStyle };
}

function pick({ s3EndpointUrl, s3Region, s3PathStyle }: Params) {
  return {
    s3PathStyle,
    ...(s3EndpointUrl === undefined ? {} : { s3EndpointUrl }),
    ...(s3Region === undefined ? {} : { s3Region }),
  };
}

function objectsOf(served: Served, params: Params, place: ReturnType<typeof placeOf>): KubernetesObject[] {
  const { registeredModelId, modelVersionId, registryLabelPrefix, kind } = params;
  const links = { 'registered-model-id': registeredModelId, 'model-version-id': modelVersionId };
  const labels = Object.entries(links).flatMap(([name, id]) => (id === undefined ? [] : [[`${registryLabelPrefix}/${name}`, id]]));
  const options: ObjectOptions = {
    ...params,
    ...place,
    pathStyle: params.s3PathStyle,
    modelId: params.modelId,
    namespace: params.namespace,
    serviceAccount: params.serviceAccount,
    s3Secret: params.s3CredentialsFrom,
    hubTokenSecret: params.hubCredentialsFrom,
    image: params.fetchImage,
    memory: params.serverMemory,
    labels: { ...labelsOf(version), ...(Object.fromEntries(labels) as Record<string, string>) },
    serverImage: params.serverImage ?? serverImages[kind === 'rayservice' ? 'rayservice' : 'deployment'],
  };
  if (kind === 'deployment') return deployment(served, options);
  if (kind === 'rayservice') return [rayService(served, options)];
  const { storageKey, runtime, modelFormat } = params;
  return [inferenceService(served, options, { storageUri: storageUriOf(served, params), storageKey, runtime, modelFormat })];
}

/** The registry's URI names a version always: with none, KServe's provider takes the first in another order than one would think. */
function storageUriOf(served: Served, { storageFrom, modelName, modelVersion }: Params): string {
  if (storageFrom === 's3') return served.uri;
  if (modelName === undefined || modelVersion === undefined)
    throw new StepError('usage', 'failed to read parameters: --storage-from model-registry needs --model-name and --model-version');
  return `model-registry://${modelName}/${modelVersion}`;
}

async function apply(objects: readonly KubernetesObject[], params: Params, ctx: StepContext): Promise<void> {
  const { kubernetesUrl, serviceAccountDir, retries, stallTimeout } = params;
  const api = await inCluster(kubernetesUrl, serviceAccountDir);
  const options = { signal: ctx.signal, log: ctx.log, dryRun: ctx.dryRun, retries, stallTimeout };
  for (const object of objects) {
    await applyObject(api, object, options);
    const { name, namespace = api.namespace } = object.metadata;
    ctx.log.info({ kind: object.kind, namespace, name, dryRun: ctx.dryRun }, ctx.dryRun ? 'would be applied' : 'applied');
  }
}
