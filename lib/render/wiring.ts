import type { Step } from '../define-step.ts';
import { envName, firstSentence, kebab, type Param } from '../params/declare.ts';

/** The image that the wiring names: whoever installs puts the own registry and tag or digest in its place with kustomize. */
export const imageName = 'localhost/modelferry';

export const workspacePath = '/workspace';
/** An emptyDir lies there: the root is read-only. */
export const temporaryPath = '/tmp';
/** Where the ConfigMap with a site's own certificates is mounted. */
export const caPath = '/etc/modelferry/ca';

export const generatedNote = 'Generated from tasks/*/step.ts by `npm run generate`: change the step, not this file.';

/** One parameter of a leaf template. */
export interface LeafParam {
  name: string;
  description: string;
  /** Undefined: must be given. */
  default: string | undefined;
}

/** One environment variable of a leaf's container: a parameter's value, or a key of a Secret, both named by parameters. */
export interface LeafEnv {
  name: string;
  param?: string;
  secret?: { nameParam: string; keyParam: string };
}

/** What a leaf needs in either engine, before it is put into that engine's words. */
export interface Leaf {
  step: Step;
  params: LeafParam[];
  env: LeafEnv[];
}

interface SecretHome {
  nameParam: string;
  secretName: string;
  keyParam: string;
  key: string;
}

const s3Secret = { nameParam: 's3-secret', secretName: 's3-credentials' };

/** Where each secret lies by default; `undefined`: another one of the same Secret stands for it, as the key is a parameter. */
const secretHomes: Record<string, SecretHome | undefined> = {
  hubToken: { nameParam: 'hub-token-secret', secretName: 'huggingface-secret', keyParam: 'hub-token-key', key: 'HUGGINGFACE_TOKEN' },
  awsAccessKeyId: { ...s3Secret, keyParam: 's3-access-key-id-key', key: 'AWS_ACCESS_KEY_ID' },
  awsSecretAccessKey: { ...s3Secret, keyParam: 's3-secret-access-key-key', key: 'AWS_SECRET_ACCESS_KEY' },
  awsSessionToken: { ...s3Secret, keyParam: 's3-session-token-key', key: 'AWS_SESSION_TOKEN' },
  s3AccessKeyId: undefined,
  s3SecretAccessKey: undefined,
  modelRegistryToken: {
    nameParam: 'model-registry-token-secret',
    secretName: 'model-registry-secret',
    keyParam: 'model-registry-token-key',
    key: 'MODEL_REGISTRY_TOKEN',
  },
};

/** Set by the wiring itself: where things are mounted, and which run this is, are its business. */
const wired = ['workspace', 'resultsDir', 's3CredentialsDir', 'runId', 'reportDir'];

/**
 * A step as a leaf. With `credentialsDir` (Tekton, which mounts a Secret as a folder) the secrets that such a folder may hold have
 * no environment of their own, so that what a run binds is what counts.
 */
export function leafOf(step: Step, { credentialsDir }: { credentialsDir: boolean }): Leaf {
  const properties = Object.entries(step.params.properties);
  const open = properties.filter(([name, param]) => !param['x-secret'] && !param['x-local'] && !wired.includes(name));
  const secrets = properties
    .filter(([, param]) => param['x-secret'] && !(credentialsDir && param['x-credentials-dir']))
    .flatMap(([name]) => {
      if (!(name in secretHomes)) throw new Error(`the wiring does not know where the secret ${name} lies`);
      const home = secretHomes[name];
      return home ? [{ env: envName(name), home }] : [];
    });
  return {
    step,
    params: [
      ...open.map(([name, param]) => ({
        name: kebab(name),
        description: describe(param),
        default: step.params.required.includes(name) ? undefined : leafDefault(param),
      })),
      ...secretParams(secrets.map(({ home }) => home)),
      {
        name: 'env-configmap',
        default: 'modelferry-env',
        description: 'ConfigMap of more environment, such as HTTPS_PROXY (may be absent).',
      },
      { name: 'ca-configmap', default: 'modelferry-ca', description: `ConfigMap of PEM files, mounted at ${caPath} (may be absent).` },
    ],
    env: [
      ...open.map(([name]) => ({ name: envName(name), param: kebab(name) })),
      ...secrets.map(({ env, home: { nameParam, keyParam } }) => ({ name: env, secret: { nameParam, keyParam } })),
    ],
  };
}

/** How a step uses the workspace: `shared` hands a manifest's path on, so that the folder must outlive the pod. */
export function workspaceUse(step: Step): 'shared' | 'optional' | 'none' {
  if (!('workspace' in step.params.properties)) return 'none';
  return 'manifest' in step.results ? 'shared' : 'optional';
}

/** A step through which the model's bytes go, and not only words about it. */
function movesBytes(step: Step): boolean {
  return 'total-bytes' in step.results;
}

/** The container's own part of the restricted Pod Security Standard; no uid, because OpenShift gives one of its own. */
export const securityContext = {
  runAsNonRoot: true,
  allowPrivilegeEscalation: false,
  readOnlyRootFilesystem: true,
  capabilities: { drop: ['ALL'] },
  seccompProfile: { type: 'RuntimeDefault' },
} as const;

/** Memory is flat, whatever the model's size (--max-memory), so what a pod asks for is what it may have. No limit of CPU: that only slows. */
export function resourcesOf(step: Step): { requests: Record<string, string>; limits: Record<string, string> } {
  if (!movesBytes(step)) return { requests: { cpu: '100m', memory: '256Mi' }, limits: { memory: '256Mi' } };
  return { requests: { cpu: '500m', memory: '512Mi' }, limits: { memory: '512Mi' } };
}

/** How long a step may take, in seconds: one that may wait for another run takes as long as that. */
export function deadlineOf(step: Step): number {
  return movesBytes(step) || 'waitTimeout' in step.params.properties ? 86_400 : 1_800;
}

/** Node by its path: the image has no shell, and its entry point is not the same on every base. */
export function commandOf(step: Step): string[] {
  return ['/nodejs/bin/node', `/app/${step.name}.cjs`];
}

/** What every rendered object is found by (Kubernetes' recommended labels). */
export function labelsOf(version: string): Record<string, string> {
  return { 'app.kubernetes.io/name': 'modelferry', 'app.kubernetes.io/version': version };
}

/** A parameter that the environment may give by other names too keeps `""`, so that a site's ConfigMap can set it once for all. */
function leafDefault(param: Param): string {
  return param['x-env'] ? '' : defaultText(param);
}

/** The default as the environment would say it. */
export function defaultText({ default: value }: Param): string {
  return Array.isArray(value) ? value.join(' ') : String(value ?? '');
}

function describe(param: Param): string {
  const choices = param.enum ? ` One of: ${param.enum.join(', ')}.` : '';
  const kept = param['x-env'] && defaultText(param) !== '' ? ` Default: ${defaultText(param)}.` : '';
  return `${firstSentence(param.description)}${choices}${kept}`;
}

function secretParams(homes: readonly SecretHome[]): LeafParam[] {
  const params = homes.flatMap(({ nameParam, secretName, keyParam, key }) => [
    { name: nameParam, default: secretName, description: 'Secret in this namespace (may be absent).' },
    { name: keyParam, default: key, description: `Key in the Secret that ${nameParam} names (may be absent).` },
  ]);
  return [...new Map(params.map((param) => [param.name, param])).values()];
}
