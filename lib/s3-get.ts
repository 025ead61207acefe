import { createHash, createHmac, type Hash, type Hmac } from 'node:crypto';
import { oneLine, StepError } from './errors.ts';
import { type HttpAnswer, readBody, send, shownUrl } from './http.ts';
import type { Log } from './log.ts';
import { s3Hint, s3Kind } from './s3/codes.ts';
import { credentialsOf, regionOf, type S3Settings } from './s3-settings.ts';
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
  return await retry({ retries, signal, log, what: doing }, async () => {
    const headers = await signedHeaders(url, settings, region);
    const answer = await send(url.href, { headers, signal, stallTimeout });
    const body = await readBody(answer);
    if (answer.status === 200) return body;
    const text = body.toString('utf8');
    const code = elementOf(text, 'Code');
    if (answer.status === 404 && code === 'NoSuchKey') return undefined;
    throw failure(doing, url, answer, code, elementOf(text, 'Message'));
  });
}

/** Where an object is: the bucket in the path or in the host name. */
export function objectUrl(key: string, { endpoint, bucket, pathStyle }: S3Settings, region: string): URL {
  const china = region.startsWith('cn-') ? '.cn' : '';
  const url = new URL(endpoint ?? `https://s3.${region}.amazonaws.com${china}`);
  if (!pathStyle) url.hostname = `${bucket}.${url.hostname}`;
  const parts = [...(pathStyle ? [bucket] : []), ...key.split('/')].map(encodeKeyPart);
  url.pathname = `${url.pathname.replace(/\/+$/, '')}/${parts.join('/')}`;
  return url;
}

function failure(doing: string, url: URL, { status, headers }: HttpAnswer, code: string, message: string): StepError {
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

/** The signer is loaded when it is first needed: most of a small program's start would be it. */
async function signedHeaders(url: URL, settings: S3Settings, region: string): Promise<Record<string, string>> {
  const { SignatureV4 } = await import('@smithy/signature-v4');
  const { expiration: _, ...credentials } = await credentialsOf(settings);
  // S3's own signature takes the path as it is sent, without a second encoding.
  const signer = new SignatureV4({ service: 's3', region, credentials, sha256: Sha256, uriEscapePath: false });
  const { protocol, hostname, host, pathname, port } = url;
  const request = { method: 'GET', protocol, hostname, path: pathname, headers: { host }, ...(port ? { port: Number(port) } : {}) };
  return (await signer.sign(request)).headers;
}

/** Node's own hash in the form that the signer asks for. */
class Sha256 {
  readonly #secret: Buffer | undefined;
  #hash: Hash | Hmac;

  constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
    this.#secret = secret === undefined ? undefined : bufferOf(secret);
    this.#hash = this.#start();
  }

  update(data: string | ArrayBuffer | ArrayBufferView): void {
    this.#hash.update(bufferOf(data));
  }

  async digest(): Promise<Uint8Array> {
    return this.#hash.digest();
  }

  reset(): void {
    this.#hash = this.#start();
  }

  #start(): Hash | Hmac {
    return this.#secret === undefined ? createHash('sha256') : createHmac('sha256', this.#secret);
  }
}

function bufferOf(data: string | ArrayBuffer | ArrayBufferView): Buffer {
  if (typeof data === 'string') return Buffer.from(data);
  return ArrayBuffer.isView(data) ? Buffer.from(data.buffer, data.byteOffset, data.byteLength) : Buffer.from(data);
}

/** RFC 3986: everything but unreserved signs, as S3's signature wants it. */
function encodeKeyPart(part: string): string {
  return encodeURIComponent(part).replace(/[!'()*]/g, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`);
}

/** The text of an element in S3's error document; empty when it is none. */
function elementOf(text: string, name: string): string {
  return oneLine(new RegExp(`<${name}>([^<]*)</${name}>`).exec(text)?.[1] ?? '').slice(0, 200);
}
