import { StepError } from './errors.ts';
import { Redactor } from './log.ts';
import { templateFault } from './naming.ts';
import type { GroupValues } from './params/declare.ts';
import type { s3Params, storeDirParams } from './params/groups/store.ts';

export interface S3Credentials {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken?: string | undefined;
  expiration?: Date | undefined;
}

/** All that tells where a bucket is and who asks: both S3 clients take it from here. */
export interface S3Settings {
  bucket: string;
  /** URL without a slash behind it; undefined: AWS's own for the region. */
  endpoint: string | undefined;
  /** True for AWS itself, also at an endpoint of its own (VPC, FIPS): it verifies the new checksums. */
  aws: boolean;
  /** Undefined: the AWS profile says it (`regionOf`). */
  region: string | undefined;
  pathStyle: boolean;
  /** A function where the AWS chain is asked: env, profile, IRSA, Pod Identity, instance; loaded on the first call. */
  credentials: S3Credentials | (() => Promise<S3Credentials>);
  sse: 'AES256' | 'aws:kms' | 'aws:kms:dsse' | undefined;
  kmsKeyId: string | undefined;
  storageClass: string | undefined;
  /** The value of x-amz-tagging; undefined without tags. */
  tagging: string | undefined;
}

/** Turns the s3 parameters into settings; nothing is asked or read. Throws one `usage` error that lists every fault. */
export function s3Settings(params: GroupValues<typeof s3Params>): S3Settings {
  const { settings, faults } = readSettings(params);
  if (faults.length > 0) throw new StepError('usage', `failed to use the S3 parameters: ${faults.join('; ')}`);
  return settings;
}

/** All that is wrong with the store that the parameters name, a bucket or a folder, and with a model's place in it; for a step's `faults`. */
export function storeFaults(params: GroupValues<typeof s3Params> & GroupValues<typeof storeDirParams>): string[] {
  const { storeDir, s3Bucket, keyTemplate, controlPrefix } = params;
  const place = templateFault(keyTemplate, controlPrefix);
  const faults = place === undefined ? [] : [place];
  if (storeDir !== undefined && s3Bucket !== undefined) return ['--s3-bucket and --store-dir are both given', ...faults];
  if (storeDir !== undefined) return faults;
  if (s3Bucket !== undefined) return [...readSettings(params).faults, ...faults];
  return [
    '--s3-bucket is missing (or S3_BUCKET in the environment, or --store-dir for a folder)',
    ...readSettings({ ...params, s3Bucket: '' }).faults,
    ...faults,
  ];
}

function readSettings(params: GroupValues<typeof s3Params>): { settings: S3Settings; faults: string[] } {
  const faults: string[] = [];
  if (params.s3Bucket === undefined) faults.push('--s3-bucket is missing');
  const bucket = params.s3Bucket ?? '';
  const { endpoint, aws, regionOfHost } = readEndpoint(params.s3EndpointUrl, bucket, faults);
  const credentials = readCredentials(params, faults);
  const tagging = readTags(params.s3Tags, faults);
  if (params.s3KmsKeyId !== undefined && !params.s3Sse?.startsWith('aws:kms')) faults.push('--s3-kms-key-id needs --s3-sse aws:kms');
  const settings = {
    bucket,
    endpoint,
    aws,
    region: params.s3Region ?? regionOfHost ?? (aws ? undefined : 'us-east-1'),
    // A bucket with dots does not match the certificate of *.s3.REGION.amazonaws.com; other stores seldom have a host name per bucket.
    pathStyle: params.s3PathStyle === 'auto' ? !aws || bucket.includes('.') : params.s3PathStyle === 'true',
    credentials,
    sse: params.s3Sse,
    kmsKeyId: params.s3KmsKeyId,
    storageClass: params.s3StorageClass,
    tagging,
  };
  return { settings, faults };
}

/** The region, from the settings or else the AWS profile. Throws `usage` when nothing says it. */
export async function regionOf({ region }: S3Settings): Promise<string> {
  if (region !== undefined) return region;
  const { loadConfig, NODE_REGION_CONFIG_FILE_OPTIONS, NODE_REGION_CONFIG_OPTIONS } = await import('@smithy/core/config');
  try {
    return await loadConfig(NODE_REGION_CONFIG_OPTIONS, NODE_REGION_CONFIG_FILE_OPTIONS)();
  } catch (error) {
    throw new StepError('usage', 'failed to use S3: no region is known', {
      hint: 'give --s3-region, or --s3-endpoint-url for an S3 other than AWS',
      cause: error,
    });
  }
}

/** The credentials to sign with now. Throws `denied` when the AWS chain finds none. */
export async function credentialsOf({ credentials }: S3Settings): Promise<S3Credentials> {
  return typeof credentials === 'function' ? await credentials() : credentials;
}

function readEndpoint(
  given: string | undefined,
  bucket: string,
  faults: string[],
): { endpoint: string | undefined; aws: boolean; regionOfHost?: string | undefined } {
  if (given === undefined) return { endpoint: undefined, aws: true };
  const text = /^[a-z][a-z0-9+.-]*:\/\//i.test(given) ? given : `https://${given}`;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.search !== '' || url.hash !== '' || url.username !== '') {
    // What stands before an @ may be a secret.
    faults.push(`--s3-endpoint-url: ${JSON.stringify(given.replace(/^.*@/, '...@'))} is no address such as https://s3.example.com:9000`);
    return { endpoint: undefined, aws: false };
  }
  const [, label] = /^(.*\.)?s3[.-].*amazonaws\.com(?:\.cn)?$/.exec(url.hostname) ?? [];
  if (label !== undefined && label === `${bucket}.`) faults.push(`--s3-endpoint-url: leave the bucket out of ${url.hostname}`);
  const aws = /\.amazonaws\.com(\.cn)?$/.test(url.hostname);
  // Data connections often name AWS's ordinary address: the region's own is meant, since the global one redirects.
  const [plain, regionOfHost = 'us-east-1'] = /^s3(?:[.-]([a-z]{2,}-[a-z-]+-\d))?\.amazonaws\.com(?:\.cn)?$/.exec(url.hostname) ?? [];
  if (plain !== undefined && url.port === '' && url.pathname === '/') return { endpoint: undefined, aws, regionOfHost };
  return { endpoint: `${url.origin}${url.pathname}`.replace(/\/+$/, ''), aws };
}

function readCredentials(params: GroupValues<typeof s3Params>, faults: string[]): S3Settings['credentials'] {
  const { s3AccessKeyId, s3SecretAccessKey, awsAccessKeyId, awsSecretAccessKey, awsSessionToken } = params;
  if (s3AccessKeyId !== undefined && s3SecretAccessKey !== undefined)
    return { accessKeyId: s3AccessKeyId, secretAccessKey: s3SecretAccessKey };
  halfPair('S3', s3AccessKeyId, s3SecretAccessKey, faults);
  if (awsAccessKeyId !== undefined && awsSecretAccessKey !== undefined) {
    return { accessKeyId: awsAccessKeyId, secretAccessKey: awsSecretAccessKey, sessionToken: awsSessionToken };
  }
  halfPair('AWS', awsAccessKeyId, awsSecretAccessKey, faults);
  return awsChain();
}

/** Half a pair is a slip: going on with another identity would hide it. */
function halfPair(family: string, id: string | undefined, secret: string | undefined, faults: string[]): void {
  if (id !== undefined && secret === undefined) faults.push(`${family}_ACCESS_KEY_ID is given without ${family}_SECRET_ACCESS_KEY`);
  if (id === undefined && secret !== undefined) faults.push(`${family}_SECRET_ACCESS_KEY is given without ${family}_ACCESS_KEY_ID`);
}

/** The SDK's own chain, which renews what expires; loaded only when it is asked, because it is larger than all the rest. */
function awsChain(): () => Promise<S3Credentials> {
  let chain: (() => Promise<S3Credentials>) | undefined;
  return async () => {
    chain ??= (await import('@aws-sdk/credential-provider-node')).defaultProvider();
    try {
      const found = await chain();
      for (const secret of [found.secretAccessKey, found.sessionToken]) if (secret) Redactor.hide(secret);
      return found;
    } catch (error) {
      throw new StepError('denied', 'failed to use S3: no credentials are known', {
        hint: 'give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a folder to --s3-credentials-dir, or the pod a role',
        cause: error,
      });
    }
  };
}

/** S3 takes ten tags, keys up to 128 and values up to 256 characters (S3 user guide, "Categorizing your storage using tags"). */
function readTags(tags: readonly string[], faults: string[]): string | undefined {
  const pairs = tags.map((tag): [string, string] => {
    const at = tag.indexOf('=');
    const pair: [string, string] = [tag.slice(0, at), tag.slice(at + 1)];
    if (at < 1 || pair[0].length > 128 || pair[1].length > 256) faults.push(`--s3-tags: ${JSON.stringify(tag)} is no key=value`);
    return pair;
  });
  if (new Set(pairs.map(([key]) => key)).size !== pairs.length) faults.push('--s3-tags: a key is given twice');
  if (pairs.length > 10) faults.push(`--s3-tags: ${pairs.length} are given, S3 takes 10`);
  return pairs.length === 0 ? undefined : pairs.map((pair) => pair.map(encodeURIComponent).join('=')).join('&');
}
