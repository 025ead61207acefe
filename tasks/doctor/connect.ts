import { isIP } from 'node:net';
import { HeadBucketCommand, ListObjectsV2Command } from '@aws-sdk/client-s3';
import { messageOf, StepError } from '../../lib/errors.ts';
import { S3Connection, type S3Options } from '../../lib/s3/connection.ts';
import { answerOf, type Findings } from './findings.ts';

/** The addressing and the region that this endpoint answers to. */
export interface Reached {
  s3: S3Connection;
  pathStyle: boolean;
  region: string;
}

/** S3 refuses what is signed further from its clock than 15 minutes (API reference, RequestTimeTooSkewed). */
const longestSkewMs = 15 * 60_000;
const seconds = (ms: number) => `${ms < 0 ? '-' : '+'}${Math.round(Math.abs(ms) / 1000)} s`;

/**
 * Lists the bucket with its name in the path and in the host, whatever the settings say, and goes on with what works (the settings' choice
 * where both do). Throws what the settings' own way ended in when neither does: `transient`, `denied`, `not-found`, ...
 */
export async function reach(options: S3Options, found: Findings): Promise<Reached> {
  const { settings } = options;
  const failures = new Map<boolean, unknown>();
  const working = new Map<boolean, S3Connection>();
  for (const pathStyle of [true, false]) {
    const check = pathStyle ? 'path-style' : 'virtual-host';
    if (!pathStyle && isAddress(settings.endpoint)) {
      found.tell(check, 'no', 'the endpoint is an address, not a name');
      continue;
    }
    try {
      working.set(pathStyle, await list(new S3Connection({ ...options, settings: { ...settings, pathStyle } })));
      found.tell(check, 'yes');
    } catch (error) {
      options.signal.throwIfAborted();
      failures.set(pathStyle, error);
      found.tell(check, 'no', answerOf(error).code ?? messageOf(error));
    }
  }
  const pathStyle = working.has(settings.pathStyle) ? settings.pathStyle : !settings.pathStyle;
  const s3 = working.get(pathStyle);
  if (s3 === undefined) throw withSkew(failures.get(settings.pathStyle) ?? failures.get(!settings.pathStyle));
  const skew = s3.now().getTime() - Date.now();
  // The header tells whole seconds.
  const off = Math.abs(skew) < 2000 ? undefined : `the store is ${seconds(skew)} from here`;
  found.tell('clock', Math.abs(skew) < longestSkewMs / 3 ? 'yes' : 'no', off);
  return { s3, pathStyle, region: await regionOfBucket(s3) };
}

/** Lists, and once more in the region that the store says is right. */
async function list(s3: S3Connection): Promise<S3Connection> {
  const input = { Bucket: s3.bucket, MaxKeys: 1 };
  try {
    await s3.send('list the bucket', (client, sent) => client.send(new ListObjectsV2Command(input), sent));
    return s3;
  } catch (error) {
    const region = saidRegion(error);
    if (region === undefined || region === s3.options.settings.region) throw error;
    return await list(new S3Connection({ ...s3.options, settings: { ...s3.options.settings, region } }));
  }
}

async function regionOfBucket(s3: S3Connection): Promise<string> {
  const { region } = s3.options.settings;
  const head = await s3
    .send('look at the bucket', (client, sent) => client.send(new HeadBucketCommand({ Bucket: s3.bucket }), sent))
    .catch(() => undefined);
  return head?.BucketRegion ?? region ?? 'us-east-1';
}

/** Errors about regions name the right one (API reference, AuthorizationHeaderMalformed). */
function saidRegion(error: unknown): string | undefined {
  const cause = error instanceof StepError ? error.cause : undefined;
  const said = cause !== null && typeof cause === 'object' && 'Region' in cause ? cause.Region : undefined;
  return typeof said === 'string' ? said : undefined;
}

/** A clock that is off is told with how far. */
function withSkew(error: unknown): unknown {
  if (!(error instanceof StepError) || answerOf(error).code !== 'RequestTimeTooSkewed') return error;
  const { $response } = error.cause as { $response?: { headers?: Record<string, string> } };
  const date = Date.parse($response?.headers?.date ?? '');
  if (Number.isNaN(date)) return error;
  const hint = `set this machine's clock: the store is ${seconds(date - Date.now())} from here`;
  return new StepError(error.kind, error.message, { hint, cause: error.cause });
}

function isAddress(endpoint: string | undefined): boolean {
  return endpoint !== undefined && isIP(new URL(endpoint).hostname.replace(/^\[|\]$/g, '')) !== 0;
}
