import { readFile } from 'node:fs/promises';
import { request } from 'node:https';
import { join } from 'node:path';
import { messageOf, oneLine, StepError } from './errors.ts';
import { readBody } from './http/answer.ts';
import { networkError } from './http/errors.ts';
import type { Log } from './log.ts';
import { retry } from './transfer/retry.ts';

/** An object as it is applied. */
export interface KubernetesObject {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string; labels?: Record<string, string>; annotations?: Record<string, string> };
  spec: object;
}

/** Whom a pod is to the API server: the mounted token of its service account. */
export interface InCluster {
  url: string;
  token: string;
  ca: string;
  namespace: string;
}

export interface ApplyOptions {
  signal: AbortSignal;
  log: Log;
  retries: number;
  /** ms */
  stallTimeout: number;
  /** Let the server check it, and keep nothing. */
  dryRun: boolean;
}

const plurals: Record<string, string> = {
  Deployment: 'deployments',
  InferenceService: 'inferenceservices',
  RayService: 'rayservices',
  Service: 'services',
};

/** Reads the folder that Kubernetes mounts into a pod (token, ca.crt, namespace). Throws `usage` where there is none. */
export async function inCluster(url: string, dir: string): Promise<InCluster> {
  const read = async (name: string) => (await readFile(join(dir, name), 'utf8')).trim();
  try {
    const [token, ca, namespace] = await Promise.all([read('token'), read('ca.crt'), read('namespace')]);
    return { url: url.replace(/\/+$/, ''), token, ca, namespace };
  } catch (error) {
    const hint = 'outside of a cluster leave --apply out and pipe to `kubectl apply --server-side -f -`';
    throw new StepError('usage', `failed to read the service account's folder ${dir}: ${messageOf(error)}`, { hint, cause: error });
  }
}

/**
 * Server-side apply as the field manager `modelferry`: makes the object or changes the fields that are ours. Throws `denied`, `not-found`
 * (the kind is not installed, or no such namespace), `refused` (another manager owns a field), `usage` (not valid), `transient`.
 */
export async function applyObject(api: InCluster, object: KubernetesObject, options: ApplyOptions): Promise<void> {
  const { kind, apiVersion, metadata } = object;
  const namespace = metadata.namespace ?? api.namespace;
  const what = `${kind} ${namespace}/${metadata.name}`;
  const query = `fieldManager=modelferry${options.dryRun ? '&dryRun=All' : ''}`;
  const root = apiVersion.includes('/') ? 'apis' : 'api';
  const path = `/${root}/${apiVersion}/namespaces/${encodeURIComponent(namespace)}/${plurals[kind]}/${encodeURIComponent(metadata.name)}`;
  await retry({ ...options, what: `apply ${what}` }, async () => {
    const { status, body } = await patch(`${api.url}${path}?${query}`, api, JSON.stringify(object), options);
    if (status < 300) return;
    throw new StepError(kindOfStatus(status), `failed to apply ${what}: ${messageIn(body)} (${status})`, { hint: hints[status] });
  });
}

const hints: Record<number, string> = {
  403: 'the service account needs patch and create on this kind',
  404: 'is the operator of this kind installed, and the namespace there?',
  409: 'somebody else has set these fields: change the object with their tool, or give it another --name',
};

function kindOfStatus(status: number): 'denied' | 'not-found' | 'refused' | 'transient' | 'usage' {
  if (status === 401 || status === 403) return 'denied';
  if (status === 404) return 'not-found';
  if (status === 409) return 'refused';
  return status === 429 || status >= 500 ? 'transient' : 'usage';
}

/** The `message` of a Status object. */
function messageIn(body: string): string {
  try {
    return oneLine(String((JSON.parse(body) as { message?: unknown }).message));
  } catch {
    return oneLine(body.slice(0, 200));
  }
}

/** One PATCH over a connection of its own, that trusts the cluster's authority and knows no proxy. */
async function patch(url: string, { token, ca }: InCluster, body: string, { signal, stallTimeout }: ApplyOptions) {
  const target = new URL(url);
  try {
    return await new Promise<{ status: number; body: string }>((resolve, reject) => {
      const headers = {
        authorization: `Bearer ${token}`,
        'content-type': 'application/apply-patch+yaml',
        'content-length': Buffer.byteLength(body),
      };
      const sent = request(target, { method: 'PATCH', headers, ca, signal, agent: false, timeout: stallTimeout }, (answer) => {
        const { statusCode: status = 0 } = answer;
        readBody({ url, body: answer }, 4 * 1024 ** 2).then((bytes) => resolve({ status, body: bytes.toString() }), reject);
      });
      sent.on('timeout', () => sent.destroy(new StepError('transient', `failed to reach ${target.origin}: it is silent`)));
      sent.on('error', reject);
      sent.end(body);
    });
  } catch (error) {
    throw networkError(target, error, signal);
  }
}
