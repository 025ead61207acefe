import type { S3Settings } from '../../lib/s3-settings.ts';
import type { Findings } from './findings.ts';

/** KServe mounts a CA from a ConfigMap of the same namespace; it has the name `cabundle.crt` there (KServe documentation, "S3 with a private CA"). */
const caConfigMap = 's3-ca';

/** What to give each of the programs that read or write this bucket. No secret is in it. */
export interface Recommended {
  /** Environment of our steps. */
  modelferry: Record<string, string>;
  /** A Secret for KServe's storage initializer, as far as it is not secret. */
  kserve: { apiVersion: 'v1'; kind: 'Secret'; metadata: { name: string; annotations: Record<string, string> } };
  /** The command that makes the ConfigMap which the Secret names; undefined where no private CA is used. */
  kserveCa?: string;
  /** Environment of vLLM, and of the Run:ai model streamer in it. */
  vllm: Record<string, string>;
}

/** Settings from what was found; `caBundle` is a path, as it was given to us. */
export function recommend(
  {
    settings,
    pathStyle,
    region,
    caBundle: given,
  }: { settings: S3Settings; pathStyle: boolean; region: string; caBundle: string | undefined },
  found: Findings,
): Recommended {
  const endpoint = settings.endpoint === undefined ? undefined : new URL(settings.endpoint);
  const caBundle = endpoint?.protocol === 'http:' ? undefined : given;
  const trailers = found.verdict('checksum-trailer') === 'yes';
  const modelferry = {
    S3_BUCKET: settings.bucket,
    ...(settings.endpoint === undefined ? {} : { S3_ENDPOINT_URL: settings.endpoint }),
    S3_REGION: region,
    S3_PATH_STYLE: String(pathStyle),
    S3_CHECKSUM: found.verdict('checksum-header') === 'yes' ? 'crc32' : 'sha256',
    ...(settings.sse === undefined ? {} : { S3_SSE: settings.sse }),
    ...(settings.kmsKeyId === undefined ? {} : { S3_KMS_KEY_ID: settings.kmsKeyId }),
    ...(caBundle === undefined ? {} : { CA_BUNDLE: caBundle }),
  };
  // KServe documentation, "S3 secret configuration": the endpoint without its scheme.
  const annotations = {
    'serving.kserve.io/s3-endpoint': endpoint?.host ?? `s3.${region}.amazonaws.com`,
    'serving.kserve.io/s3-region': region,
    'serving.kserve.io/s3-usehttps': endpoint?.protocol === 'http:' ? '0' : '1',
    'serving.kserve.io/s3-verifyssl': '1',
    'serving.kserve.io/s3-usevirtualbucket': String(!pathStyle),
    'serving.kserve.io/s3-useanoncredential': 'false',
    ...(caBundle === undefined ? {} : { 'serving.kserve.io/s3-cabundle-configmap': caConfigMap }),
  };
  const vllm = {
    ...(settings.endpoint === undefined ? {} : { AWS_ENDPOINT_URL: settings.endpoint }),
    AWS_REGION: region,
    ...(pathStyle ? { RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING: '0' } : {}),
    // Else a pod without a role waits for an instance that does not answer.
    ...(settings.aws ? {} : { AWS_EC2_METADATA_DISABLED: 'true' }),
    ...(trailers ? {} : { AWS_REQUEST_CHECKSUM_CALCULATION: 'when_required', AWS_RESPONSE_CHECKSUM_VALIDATION: 'when_required' }),
    ...(caBundle === undefined ? {} : { AWS_CA_BUNDLE: caBundle }),
  };
  const kserveCa = `kubectl create configmap ${caConfigMap} --from-file=cabundle.crt=${caBundle}`;
  return {
    modelferry,
    ...(caBundle === undefined ? {} : { kserveCa }),
    kserve: { apiVersion: 'v1', kind: 'Secret', metadata: { name: 's3-credentials', annotations } },
    vllm,
  };
}
