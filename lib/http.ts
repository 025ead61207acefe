import { request as httpRequest, type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { kindOf, messageOf, StepError } from './errors.ts';
import { agents } from './network.ts';

export interface RequestOptions {
  method?: string;
  headers?: Record<string, string>;
  body?: Uint8Array | string | undefined;
  signal?: AbortSignal | undefined;
  /** A connection that is silent for so long (ms) is given up. */
  stallTimeout: number;
}

export interface HttpAnswer {
  status: number;
  headers: IncomingHttpHeaders;
  url: string;
  body: IncomingMessage;
}

/**
 * One request over the shared agents (keep-alive, proxies, roots), no redirect followed. The body is the caller's to read or destroy.
 * Throws `transient` for what fails below HTTP (DNS, connect, reset, stall) and `usage` for certificates and addresses that no retry mends.
 * On node:http rather than fetch, because its body comes as plain buffers, without a web stream around each.
 */
export async function send(url: string, { method = 'GET', headers = {}, body, signal, stallTimeout }: RequestOptions): Promise<HttpAnswer> {
  const target = parseUrl(url);
  const secure = target.protocol === 'https:';
  const start = secure ? httpsRequest : httpRequest;
  return await new Promise<HttpAnswer>((resolve, reject) => {
    const length = body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) };
    const request = start(target, { method, headers: { ...length, ...headers }, agent: secure ? agents().https : agents().http, signal });
    let answered: IncomingMessage | undefined;
    // Once there is a body, it is what the reader hears the cause from.
    request.setTimeout(stallTimeout, () => (answered ?? request).destroy(stalled(target, stallTimeout)));
    request.on('error', (error) => reject(networkError(target, error, signal)));
    request.on('response', (answer) => {
      answered = answer;
      resolve({ status: answer.statusCode ?? 0, headers: answer.headers, url, body: answer });
    });
    request.end(body);
  });
}

/** Reads a body whole. Throws `transient` when it is cut, `integrity` when it is over `limit` bytes. */
export async function readBody(answer: HttpAnswer, limit = 64 * 1024 ** 2): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of answer.body as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > limit) throw new StepError('integrity', `failed to read ${shownUrl(answer.url)}: the answer is over ${limit} bytes`);
      chunks.push(chunk);
    }
  } catch (error) {
    throw networkError(new URL(answer.url), error, undefined);
  }
  return Buffer.concat(chunks, size);
}

/**
 * Copies a body into a buffer, telling each piece's bytes: what has come before a failure stays. Throws `transient` when the body is cut
 * or silent, `integrity` when it is longer than the buffer. One that ends early is the caller's to notice.
 */
export async function readInto(
  { body, url }: HttpAnswer,
  into: Buffer,
  onBytes: (bytes: number) => void,
  signal: AbortSignal,
): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    let filled = 0;
    let over = false;
    const fail = (error: unknown) => {
      over = true;
      reject(networkError(new URL(url), error, signal));
    };
    // A handler rather than an iterator: a promise for each piece costs more than copying it.
    body.on('data', (piece: Buffer) => {
      if (over) return;
      if (filled + piece.length > into.length) {
        fail(new StepError('integrity', `failed to read ${shownUrl(url)}: over ${into.length} bytes came`));
        body.destroy();
        return;
      }
      piece.copy(into, filled);
      filled += piece.length;
      onBytes(piece.length);
    });
    body.on('end', resolve);
    body.on('error', fail);
    body.on('close', () => fail(new StepError('transient', `failed to read ${shownUrl(url)}: the connection was closed`)));
  });
}

/** A fetch over `send`, for libraries that take one; bodies are small. Redirects are the library's to follow. */
export function fetchOver(stallTimeout: number, signal?: AbortSignal): typeof fetch {
  return async (input, init) => {
    const request = new Request(input, init);
    const body = request.body === null ? undefined : new Uint8Array(await request.arrayBuffer());
    const headers = Object.fromEntries(request.headers);
    return await toResponse(await send(request.url, { method: request.method, headers, body, signal, stallTimeout }), request.method);
  };
}

/** An answer as fetch gives it, its body read whole. Throws as readBody does. */
export async function toResponse(answer: HttpAnswer, method = 'GET'): Promise<Response> {
  const bytes = await readBody(answer);
  const pairs = Object.entries(answer.headers).flatMap(([name, value]) => [value ?? []].flat().map((one): [string, string] => [name, one]));
  const empty = method === 'HEAD' || [101, 204, 205, 304].includes(answer.status);
  const response = new Response(empty ? null : new Uint8Array(bytes), { status: answer.status, headers: pairs });
  Object.defineProperty(response, 'url', { value: answer.url });
  return response;
}

/** An address without its query and userinfo: signatures and tokens are there. */
export function shownUrl(url: string | URL): string {
  const { origin, pathname } = new URL(url);
  return `${origin}${pathname}`;
}

/** Classes what failed below HTTP; a StepError passes as it is, and so does our own abort. */
export function networkError(target: URL, error: unknown, signal: AbortSignal | undefined): unknown {
  if (error instanceof StepError) return error;
  if (signal?.aborted) return signal.reason;
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const message = `failed to reach ${shownUrl(target)}: ${messageOf(error)}`;
  if (certificateCodes.test(code)) {
    return new StepError('usage', message, { hint: 'give the authority that signed it to --ca-bundle', cause: error });
  }
  const kind = kindOf(error);
  return new StepError(kind === 'bug' ? 'transient' : kind, message, {
    hint: 'check the address, the network and HTTPS_PROXY',
    cause: error,
  });
}

/** OpenSSL's verification errors as Node names them (node:tls documentation, X.509 certificate error codes). */
const certificateCodes = /^(UNABLE_TO_|CERT_|DEPTH_ZERO_|SELF_SIGNED_|ERR_TLS_CERT_ALTNAME_INVALID|HOSTNAME_MISMATCH|INVALID_CA)/;

function stalled(target: URL, stallTimeout: number): StepError {
  return new StepError('transient', `failed to read ${shownUrl(target)}: silent for ${Math.round(stallTimeout / 1000)} s`);
}

function parseUrl(url: string): URL {
  const target = URL.canParse(url) ? new URL(url) : undefined;
  if (target && /^https?:$/.test(target.protocol)) return target;
  throw new StepError('usage', `failed to use address ${url}: it is no http or https address`, { hint: 'it looks like https://host' });
}
