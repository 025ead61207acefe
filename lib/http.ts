import { type ClientRequest, request as httpRequest, type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { kindOf, messageOf, StepError } from './errors.ts';
import { agents, type Lane } from './network.ts';
import type { Turn } from './transfer/governor.ts';
import { floorRate } from './transfer/rate.ts';

export interface RequestOptions {
  method?: string;
  headers?: Record<string, string>;
  body?: Uint8Array | string | undefined;
  signal?: AbortSignal | undefined;
  /** A connection that is silent for so long (ms) is given up. */
  stallTimeout: number;
  /** Which connections it may take; default: those of all requests. */
  lane?: Lane | undefined;
}

export interface HttpAnswer {
  status: number;
  headers: IncomingHttpHeaders;
  url: string;
  /** Of the server, or of the proxy in between. */
  remoteAddress?: string | undefined;
  body: IncomingMessage;
  /** Gives the request's place among those of its origin away, which the body's end does by itself: for bodies that stay open between reads. */
  leave: () => void;
}

/** A body goes out in pieces of so many bytes: each must be taken within the stall timeout, and the bandwidth is kept to between them. */
const pieceBytes = 256 * 1024;

/**
 * One request over the shared agents (keep-alive, proxies, roots), no redirect followed. The body is the caller's to read or destroy.
 * Throws `transient` for what fails below HTTP (DNS, connect, reset, stall) and `usage` for certificates and addresses that no retry mends.
 * On node:http rather than fetch, because its body comes as plain buffers, without a web stream around each.
 */
export async function send(
  url: string,
  { method = 'GET', headers = {}, body, signal, stallTimeout, lane }: RequestOptions,
): Promise<HttpAnswer> {
  const target = parseUrl(url);
  const secure = target.protocol === 'https:';
  const start = secure ? httpsRequest : httpRequest;
  const { pace } = agents();
  const { http, https } = lane ?? agents();
  const bytes = typeof body === 'string' ? Buffer.from(body) : body;
  const turn = await pace.enter(target.origin, signal);
  return await new Promise<HttpAnswer>((resolve, reject) => {
    const length = bytes === undefined ? {} : { 'content-length': String(bytes.length) };
    const ask = (first: boolean) => {
      const agent = secure ? https : http;
      // The timeout is the socket's from its first moment: request.setTimeout alone begins once it is connected.
      const options = { method, headers: { ...length, ...headers }, agent, signal, timeout: stallTimeout };
      const request = begin(() => start(target, options), turn);
      let answered: IncomingMessage | undefined;
      let again: 'as it was' | 'with care' | undefined;
      // Once there is a body, it is what the reader hears the cause from.
      const stop = (how: string) => (answered ?? request).destroy(stalled(target, how, stallTimeout));
      request.on('timeout', () => stop('silent'));
      request.on('error', (error) => {
        if (answered === undefined && !signal?.aborted) {
          if (wasStale(request, error)) again = 'as it was';
          else if (first && wasUnheard(request, error)) again = 'with care';
        }
        if (again === undefined) reject(networkError(target, error, signal));
      });
      request.on('close', () => (again ? ask(again === 'as it was') : turn.leave()));
      request.on('finish', () => {
        if (answered === undefined) watchHead(request, stallTimeout, stop);
      });
      request.on('response', (answer) => {
        // No server that is asked answers so: a proxy does (RFC 9110, 15.5.8), and what it says is nothing that was asked for.
        if (answer.statusCode === 407) return void request.destroy(refusedByProxy(target, 407));
        answered = answer;
        turn.answered(answer.statusCode ?? 0, answer.headers);
        if (method === 'GET') watchTrickle(answer, stallTimeout, stop);
        // What was not waited for is not sent any more.
        if (!first && !request.writableEnded) answer.once('end', () => request.destroy());
        const { remoteAddress } = answer.socket;
        resolve({ status: answer.statusCode ?? 0, headers: answer.headers, url, remoteAddress, body: answer, leave: turn.leave });
      });
      if (bytes === undefined || bytes.length === 0) request.end();
      else void writeBody(request, bytes, stallTimeout, stop, first ? 0 : carefulMs);
    };
    ask(true);
  });
}

/** With care, so long (ms) an answer is waited for behind each piece of a body. */
const carefulMs = 10;

/**
 * True for a write that was cut while its body went out: a server that refuses one may answer and close before it has read all, and what it said is
 * lost with the connection (RFC 9112, 9.6; versitygw does so). It is asked once more, with care.
 */
function wasUnheard(request: ClientRequest, error: Error & { code?: string }): boolean {
  const sending = request.method === 'PUT' && !request.writableFinished;
  return sending && !isConditional(request) && ['ECONNRESET', 'EPIPE'].includes(error.code ?? '');
}

function isConditional(request: ClientRequest): boolean {
  return request.hasHeader('if-match') || request.hasHeader('if-none-match');
}

/**
 * True for a connection that its server closed in the very moment it was used again: that was no try (RFC 9112, 9.3.1), where asking twice is like
 * asking once (RFC 9110, 9.2.2). It is not for a POST or a PATCH, nor for a write under a condition that its first try may have changed. Each such end
 * takes one out of those that wait, so that a new one is next at last.
 */
function wasStale(request: ClientRequest, error: Error & { code?: string }): boolean {
  const { method, reusedSocket } = request;
  const read = method === 'GET' || method === 'HEAD';
  const write = method === 'PUT' || method === 'DELETE';
  return reusedSocket && (read || (write && !isConditional(request))) && ['ECONNRESET', 'EPIPE'].includes(error.code ?? '');
}

function refusedByProxy(target: URL, status: number): StepError {
  return new StepError('denied', `failed to reach ${shownUrl(target)}: the proxy refuses it (${status})`, {
    hint: 'HTTPS_PROXY and HTTP_PROXY may hold user and password: http://user:password@host:port, percent-encoded; NO_PROXY names what needs no proxy',
  });
}

/** A request that cannot even be made (a header that is none) has no end that would give its place away. */
function begin(make: () => ClientRequest, turn: Turn): ClientRequest {
  try {
    return make();
  } catch (error) {
    turn.leave();
    throw error;
  }
}

async function writeBody(
  request: ClientRequest,
  bytes: Uint8Array,
  stallTimeout: number,
  stop: (how: string) => void,
  leastPauseMs: number,
): Promise<void> {
  const { out } = agents().pace;
  let unwanted = false;
  if (leastPauseMs > 0) {
    request.once('response', () => {
      unwanted = true;
    });
  }
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    const piece = bytes.subarray(at, at + pieceBytes);
    const pauseMs = Math.min(Math.max(out.count(piece.length), at === 0 ? 0 : leastPauseMs), stallTimeout / 2);
    if (pauseMs >= 1) await new Promise((resolve) => setTimeout(resolve, pauseMs));
    if (request.destroyed || unwanted) return;
    const timer = setTimeout(() => stop('hardly moving'), stallTimeout);
    await new Promise<void>((resolve) => {
      const taken = () => {
        request.off('close', taken);
        resolve();
      };
      request.once('close', taken);
      if (at + piece.length < bytes.length) request.write(piece, taken);
      else request.end(piece, taken);
    });
    clearTimeout(timer);
  }
}

/** Ends a request whose answer's head is not whole a stall timeout after its first byte: each byte of it ends the silence, and there is no other watch. */
function watchHead(request: ClientRequest, stallTimeout: number, stop: (how: string) => void): void {
  const { socket } = request;
  if (socket === null) return;
  let before = socket.bytesRead;
  let began: number | undefined;
  const timer = setInterval(() => {
    if (socket.bytesRead === before) return;
    began ??= performance.now();
    if (performance.now() - began >= stallTimeout) stop('only trickling');
  }, stallTimeout / 4);
  // 1xx: whole heads, behind which the server may think again.
  request.on('information', () => {
    before = socket.bytesRead;
    began = undefined;
  });
  const end = () => clearInterval(timer);
  request.once('response', end);
  request.once('close', end);
}

/** Ends a body that brings less than the floor over a whole stall timeout, unless it is its reader who does not take more. */
function watchTrickle(body: IncomingMessage, stallTimeout: number, stop: (how: string) => void): void {
  const { socket } = body;
  let before = socket.bytesRead;
  const timer = setInterval(() => {
    const few = socket.bytesRead - before < (floorRate * stallTimeout) / 1000;
    before = socket.bytesRead;
    if (few && !body.complete && body.readableLength < body.readableHighWaterMark) stop('only trickling');
  }, stallTimeout);
  body.once('close', () => clearInterval(timer));
}

/** Reads a body whole. Throws `transient` when it is cut, `integrity` when it is over `limit` bytes. */
export async function readBody(answer: Pick<HttpAnswer, 'body' | 'url'>, limit = 64 * 1024 ** 2): Promise<Buffer> {
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
      const pauseMs = agents().pace.in.count(piece.length);
      if (pauseMs >= 1) {
        body.pause();
        setTimeout(() => body.resume(), pauseMs);
      }
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
  // Node tells what a proxy answered to CONNECT.
  const status = code === 'ERR_PROXY_TUNNEL' ? (error as { statusCode?: number }).statusCode : undefined;
  if (status !== undefined && [401, 403, 407].includes(status)) return refusedByProxy(target, status);
  const kind = kindOf(error);
  return new StepError(kind === 'bug' ? 'transient' : kind, message, {
    hint: 'check the address, the network and HTTPS_PROXY',
    cause: error,
  });
}

/** OpenSSL's verification errors as Node names them (node:tls documentation, X.509 certificate error codes). */
const certificateCodes = /^(UNABLE_TO_|CERT_|DEPTH_ZERO_|SELF_SIGNED_|ERR_TLS_CERT_ALTNAME_INVALID|HOSTNAME_MISMATCH|INVALID_CA)/;

function stalled(target: URL, how: string, stallTimeout: number): StepError {
  return new StepError('transient', `failed to read ${shownUrl(target)}: ${how} for ${Math.round(stallTimeout / 1000)} s`);
}

function parseUrl(url: string): URL {
  const target = URL.canParse(url) ? new URL(url) : undefined;
  if (target && /^https?:$/.test(target.protocol)) return target;
  throw new StepError('usage', `failed to use address ${url}: it is no http or https address`, { hint: 'it looks like https://host' });
}
