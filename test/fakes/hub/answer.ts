import { randomBytes } from 'node:crypto';
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { gzipSync } from 'node:zlib';
import { bytesOf, type Content, readRange, sizeOf } from '../content.ts';

/** An error as the Hub words it: the code is absent where the Hub leaves it out. */
export interface Refusal {
  status: number;
  code?: 'RepoNotFound' | 'RevisionNotFound' | 'EntryNotFound' | 'GatedRepo';
  message: string;
}

/** Headers that every answer of huggingface.co carries; `api` and `resolvers` are its two request budgets. */
export function hubHeaders(budget: 'api' | 'resolvers'): OutgoingHttpHeaders {
  const quota = budget === 'api' ? 500 : 3000;
  return {
    'x-powered-by': 'huggingface-moon',
    'x-request-id': `Root=1-${randomBytes(4).toString('hex')}-${randomBytes(12).toString('hex')}`,
    ratelimit: `"${budget}";r=${quota - 1};t=295`,
    'ratelimit-policy': `"fixed window";"${budget}";q=${quota};w=300`,
  };
}

/** Answers JSON. */
export function sendJson(response: ServerResponse, status: number, value: unknown, headers: OutgoingHttpHeaders = {}): void {
  const body = JSON.stringify(value);
  const type = 'application/json; charset=utf-8';
  response.writeHead(status, { ...hubHeaders('api'), 'content-type': type, 'content-length': Buffer.byteLength(body), ...headers });
  response.end(body);
}

/** Answers text from the file side of the Hub. */
export function sendText(response: ServerResponse, status: number, body: string, headers: OutgoingHttpHeaders = {}): void {
  const type = 'text/plain; charset=utf-8';
  response.writeHead(status, { ...hubHeaders('resolvers'), 'content-type': type, 'content-length': Buffer.byteLength(body), ...headers });
  response.end(body);
}

/** Answers an error: its code and message are headers, the body is JSON under /api and text elsewhere. */
export function sendRefusal(request: IncomingMessage, response: ServerResponse, refusal: Refusal, headers: OutgoingHttpHeaders = {}): void {
  const all: OutgoingHttpHeaders = { ...headers, 'x-error-message': refusal.message };
  if (refusal.code) all['x-error-code'] = refusal.code;
  if (refusal.status === 401) all['www-authenticate'] = 'Bearer realm="Authentication required", charset="UTF-8"';
  const api = request.url?.startsWith('/api/') && !request.url.startsWith('/api/resolve-cache/');
  if (api) sendJson(response, refusal.status, { error: refusal.message }, all);
  else sendText(response, refusal.status, refusal.message, all);
}

/** Reads a whole request body. */
export async function readBody(request: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of request) pieces.push(piece as Buffer);
  return Buffer.concat(pieces).toString();
}

export interface SendOptions {
  /** Strong ETag, with its quotes. */
  etag: string;
  /** False: Range is ignored, as some mirrors do. */
  ranges: boolean;
  /** Compressed for those who accept it, as the Hub's own CDN does with small text: no length, no ranges, a weak ETag. */
  gzip?: boolean;
}

/**
 * Serves content to GET and HEAD: 200, 206 and 416 by Range and If-Range, 304 by If-None-Match, 412 by If-Match.
 * A malformed range or several of them are answered by the whole, as RFC 9110 allows and S3 does.
 */
export async function sendContent(
  request: IncomingMessage,
  response: ServerResponse,
  content: Content,
  headers: OutgoingHttpHeaders,
  { etag, ranges, gzip = false }: SendOptions,
): Promise<void> {
  const size = sizeOf(content);
  const base = { ...headers, etag };
  const { 'if-none-match': noneMatch, 'if-match': match, 'if-range': ifRange, range } = request.headers;
  if (match !== undefined && !listed(match, etag)) return void response.writeHead(412, { ...base, 'content-length': 0 }).end();
  if (noneMatch !== undefined && listed(noneMatch, etag)) return void response.writeHead(304, base).end();
  const wanted = ranges && (ifRange === undefined || ifRange === etag) ? parseRange(range, size) : undefined;
  if (wanted === 'unsatisfiable') {
    return void response.writeHead(416, { ...base, 'content-range': `bytes */${size}`, 'content-length': 0 }).end();
  }
  if (wanted === undefined && gzip && size >= 1000 && /\bgzip\b/.test(String(request.headers['accept-encoding'] ?? ''))) {
    response.writeHead(200, { ...base, etag: `W/${etag}`, 'content-encoding': 'gzip', vary: 'Accept-Encoding' });
    return void response.end(request.method === 'HEAD' ? undefined : gzipSync(bytesOf(content)));
  }
  const [start, end] = wanted ?? [0, size];
  const rangeHeaders = wanted ? { 'content-range': `bytes ${start}-${end - 1}/${size}` } : {};
  const accept = ranges ? { 'accept-ranges': 'bytes' } : {};
  response.writeHead(wanted ? 206 : 200, { ...base, ...accept, ...rangeHeaders, 'content-length': end - start });
  if (request.method === 'HEAD') return void response.end();
  for (const piece of readRange(content, start, end)) {
    if (response.destroyed) return;
    if (!response.write(piece)) await drained(response);
  }
  response.end();
}

function listed(header: string, etag: string): boolean {
  const bare = etag.replace(/^W\//, '');
  return header.split(',').some((one) => one.trim() === '*' || one.trim().replace(/^W\//, '') === bare);
}

/** First byte and the one after the last; undefined when the whole is to be sent. */
function parseRange(header: string | undefined, size: number): [number, number] | 'unsatisfiable' | undefined {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header ?? '');
  if (!match || (match[1] === '' && match[2] === '')) return undefined;
  if (match[1] === '') {
    const last = Number(match[2]);
    return last === 0 || size === 0 ? 'unsatisfiable' : [Math.max(0, size - last), size];
  }
  const start = Number(match[1]);
  const end = match[2] === '' ? Number.POSITIVE_INFINITY : Number(match[2]) + 1;
  if (end <= start) return undefined;
  return start >= size ? 'unsatisfiable' : [start, Math.min(end, size)];
}

function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      response.off('drain', done);
      response.off('close', done);
      resolve();
    };
    response.on('drain', done);
    response.on('close', done);
  });
}
