import type { IncomingMessage } from 'node:http';
import { S3Error } from './errors.ts';

/** What a request names, read from its Host and its request target. */
export interface Target {
  bucket: string;
  key: string;
  /** Decoded; a name without `=` has the value ''. */
  query: Map<string, string>;
  /** The path as it was sent, without the query. */
  rawPath: string;
}

/** Reads path style and virtual host style addresses. `isBucket` says whether a bucket of that name exists. */
export function readTarget(request: IncomingMessage, domain: string, isBucket: (name: string) => boolean): Target {
  // The AWS client in C, which the Run:ai streamer reads with, names the server too (RFC 9112, absolute form).
  const url = (request.url ?? '/').replace(/^https?:\/\/[^/?]*/, '');
  const mark = url.indexOf('?');
  const rawPath = mark < 0 ? url : url.slice(0, mark);
  const query = new Map<string, string>();
  for (const pair of mark < 0 ? [] : url.slice(mark + 1).split('&')) {
    const equals = pair.indexOf('=');
    if (pair !== '') query.set(decode(equals < 0 ? pair : pair.slice(0, equals)), equals < 0 ? '' : decode(pair.slice(equals + 1)));
  }
  const path = rawPath.replace(/^\//, '');
  const fromHost = bucketOfHost(request.headers.host ?? '', domain, isBucket);
  if (fromHost !== undefined) return { bucket: fromHost, key: decode(path), query, rawPath };
  const slash = path.indexOf('/');
  if (slash < 0) return { bucket: decode(path), key: '', query, rawPath };
  return { bucket: decode(path.slice(0, slash)), key: decode(path.slice(slash + 1)), query, rawPath };
}

function bucketOfHost(host: string, domain: string, isBucket: (name: string) => boolean): string | undefined {
  const name = host.replace(/:\d+$/, '').toLowerCase();
  if (name.endsWith(`.${domain}`)) return name.slice(0, -domain.length - 1);
  const labels = name.split('.');
  for (let count = labels.length - 1; count > 0; count -= 1) {
    const bucket = labels.slice(0, count).join('.');
    if (isBucket(bucket)) return bucket;
  }
  return undefined;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new S3Error('InvalidURI', { URI: text });
  }
}
