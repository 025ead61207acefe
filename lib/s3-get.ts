import type { Head } from './direct/message.ts';
import { oneLine, StepError } from './errors.ts';
import { type HttpAnswer, readBody, readInto } from './http/answer.ts';
import { networkError } from './http/errors.ts';
import { send } from './http/request.ts';
import type { Log } from './log.ts';
import { agents } from './network.ts';
import { s3Hint, s3Kind } from './s3/codes.ts';
import { hasObjectHeaders, NoS3, noS3Hint } from './s3/foreign.ts';
import { regionOf, type S3Settings } from './s3-settings.ts';
import { encodeSigned, signed } from './s3-signature.ts';
import { shownUrl } from './shown-url.ts';
import { PreconditionFailed, type RangeOptions } from './store.ts';
import { retry, retryAfterMs } from './transfer/retry.ts';

export interface S3GetOptions {
  settings: S3Settings;
  /** Tries after the first. */
  retries: number;
  /** ms */
  stallTimeout: number;
  signal: AbortSignal;
  log: Log;
}

/**
 * The bytes of one small object by one signed request, without the S3 SDK; undefined when it is not there. Throws `denied`, `transient`,
 * `usage`, and `not-found` for the bucket.
 */
export async function s3Get(key: string, { settings, retries, stallTimeout, signal, log }: S3GetOptions): Promise<Buffer | undefined> {
  const doing = `get ${key} from bucket ${settings.bucket}`;
  const region = await regionOf(settings);
  const url = objectUrl(key, settings, region);
  const ask = async () => {
    const headers = await signedGet(url, settings, region);
    const answer = await send(url.href, { headers, signal, stallTimeout });
    const body = await readBody(answer);
    if (answer.status === 200 && !hasObjectHeaders(answer.headers)) throw noS3(doing, url, answer);
    if (answer.status === 200) return body;
    const text = body.toString('utf8');
    const code = elementOf(text, 'Code');
    if (answer.status === 404 && code === 'NoSuchKey') return undefined;
    throw failure(doing, url, answer, code, elementOf(text, 'Message'));
  };
  return await retry({ retries, signal, log, what: doing }, () => byItsClock(url, ask));
}

/**
 * Fills `into` with an object's bytes from `offset`; a cut read goes on where it was cut. Bodies go straight into the buffer where nothing
 * stands in between (lib/direct): a GiB costs the SDK's streams several seconds of CPU. Throws as s3Get, PreconditionFailed, `not-found`,
 * and `integrity` when something else comes than was asked for.
 */
export async function s3GetRange(
  key: string,
  offset: number,
  into: Buffer,
  { settings, retries, stallTimeout, signal, log }: S3GetOptions,
  { etag, onBytes }: Pick<RangeOptions, 'etag' | 'onBytes'> = {},
): Promise<void> {
  if (into.length === 0) return;
  const doing = `get ${key} from bucket ${settings.bucket}`;
  const region = await regionOf(settings);
  const url = objectUrl(key, settings, region);
  let filled = 0;
  const count = (bytes: number) => {
    filled += bytes;
    onBytes?.(bytes);
  };
  const ask = async () => {
    const range = `bytes=${offset + filled}-${offset + into.length - 1}`;
    const headers: Record<string, string> = { ...(await signedGet(url, settings, region)), range };
    if (etag !== undefined) headers['if-match'] = `"${etag}"`;
    const rest = into.subarray(filled);
    const { direct } = agents();
    const accept = (head: Head) => isRange(head, range, rest.length);
    const request = { headers, into: rest, accept, onBytes: count, signal, stallTimeout };
    const head = await direct?.get(url.href, request).catch((error: unknown) => {
      throw networkError(url, error, signal);
    });
    // Again by the long way where it is not what was asked for, for the words of the answer.
    if (head === undefined || !accept(head)) {
      const answer = await send(url.href, { headers, signal, stallTimeout });
      if (accept(answer)) await readInto(answer, rest, count, signal);
      else throw await refused(doing, url, answer);
    }
    if (filled < into.length) throw new StepError('transient', `failed to ${doing}: cut after ${filled} of ${into.length} bytes`);
  };
  await retry({ retries, signal, log, what: doing }, () => byItsClock(url, ask));
}

/** How far (ms) a store's clock is ahead of ours, by origin, since it refused a signature for it: the SDK's client corrects itself in the same way. */
const clockAhead = new Map<string, number>();
/** A request is on its way for less. */
const sameClockMs = 60_000;

async function signedGet(url: URL, settings: S3Settings, region: string): Promise<Record<string, string>> {
  const signingDate = new Date(Date.now() + (clockAhead.get(url.origin) ?? 0));
  return await signed({ method: 'GET', url, headers: {} }, { settings, region, signingDate });
}

/** Asks once more when the store refused the time of the signature and told its own. */
async function byItsClock<T>({ origin }: URL, ask: () => Promise<T>): Promise<T> {
  const before = clockAhead.get(origin);
  try {
    return await ask();
  } catch (error) {
    if (clockAhead.get(origin) === before) throw error;
    return await ask();
  }
}

function learnClock({ origin }: URL, { headers }: Pick<HttpAnswer, 'headers'>): void {
  const ahead = Date.parse(String(headers.date)) - Date.now();
  if (Math.abs(ahead - (clockAhead.get(origin) ?? 0)) > sameClockMs) clockAhead.set(origin, ahead);
}

/** The answer has exactly that range; a server without ranges is as good when the whole was asked for. */
function isRange({ status, headers }: Pick<Head, 'status' | 'headers'>, range: string, length: number): boolean {
  if (status === 206) return String(headers['content-range']).startsWith(`${range.replace('=', ' ')}/`);
  return status === 200 && range.startsWith('bytes=0-') && Number(headers['content-length']) === length;
}

async function refused(doing: string, url: URL, answer: HttpAnswer): Promise<Error> {
  if (answer.status < 300) {
    answer.body.destroy();
    if (!hasObjectHeaders(answer.headers)) return noS3(doing, url, answer);
    return new StepError(
      'integrity',
      `failed to ${doing}: another range came than was asked for (${answer.headers['content-range'] ?? 'none'})`,
    );
  }
  const text = (await readBody(answer)).toString('utf8');
  const [code, message] = [elementOf(text, 'Code'), elementOf(text, 'Message')];
  if (answer.status === 412) return new PreconditionFailed(doing);
  if (answer.status === 416) return new StepError('integrity', `failed to ${doing}: it is shorter than expected`);
  return failure(doing, url, answer, code, message);
}

function noS3(doing: string, { origin }: URL, answer: HttpAnswer): StepError {
  return new StepError('usage', `failed to ${doing}: ${new NoS3(origin, answer, false).message}`, { hint: noS3Hint });
}

/** Where an object is: the bucket in the path or in the host name. */
export function objectUrl(key: string, { endpoint, bucket, pathStyle }: S3Settings, region: string): URL {
  const china = region.startsWith('cn-') ? '.cn' : '';
  const url = new URL(endpoint ?? `https://s3.${region}.amazonaws.com${china}`);
  if (!pathStyle) url.hostname = `${bucket}.${url.hostname}`;
  const parts = [...(pathStyle ? [bucket] : []), ...key.split('/')].map(encodeSigned);
  url.pathname = `${url.pathname.replace(/\/+$/, '')}/${parts.join('/')}`;
  return url;
}

function failure(doing: string, url: URL, { status, headers }: HttpAnswer, code: string, message: string): StepError {
  if (code === 'RequestTimeTooSkewed') learnClock(url, { headers });
  if (code === '') {
    const type = headers['content-type'] ?? 'an answer of no type';
    const kind = s3Kind('', status) ?? 'usage';
    const hint = kind === 'transient' ? undefined : 'check --s3-endpoint-url: an S3 answers errors as XML';
    const why = `failed to ${doing}: ${shownUrl(url)} answers ${status} with ${type}`;
    return new StepError(kind, why, { hint, retryAfterMs: retryAfterMs(headers['retry-after']) });
  }
  const kind = s3Kind(code, status) ?? 'usage';
  return new StepError(kind, `failed to ${doing}: ${code} (${status})${message ? `: ${message}` : ''}`, {
    hint: s3Hint(code, kind),
    retryAfterMs: retryAfterMs(headers['retry-after']),
  });
}

/** The text of an element in S3's error document; empty when it is none. */
function elementOf(text: string, name: string): string {
  return oneLine(new RegExp(`<${name}>([^<]*)</${name}>`).exec(text)?.[1] ?? '').slice(0, 200);
}
