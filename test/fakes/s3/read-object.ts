import type { ServerResponse } from 'node:http';
import { type Call, findObject } from './call.ts';
import { checkRead } from './conditions.ts';
import { S3Error } from './errors.ts';
import { checksumHeaders, checksumsToShow } from './object-checksums.ts';
import { encryptionHeaders, versionHeaders } from './properties.ts';
import type { StoredObject } from './state.ts';

interface Range {
  start: number;
  /** Behind the last byte. */
  end: number;
}

const overrides = ['content-type', 'cache-control', 'content-disposition', 'content-encoding', 'content-language', 'expires'];

/** HeadObject: what GetObject would say, without the body. */
export async function headObject(call: Call): Promise<void> {
  const object = findObject(call.bucket, call.key, call.query.get('versionId'));
  const { status, headers } = await describe(call, object);
  call.response.writeHead(status, headers);
  call.response.end();
}

/** GetObject: all, one range, or one part; holds the bytes while it sends them. */
export async function getObject(call: Call): Promise<void> {
  const object = findObject(call.bucket, call.key, call.query.get('versionId'));
  object.content.retain();
  try {
    const { status, headers, range } = await describe(call, object);
    const { response } = call;
    response.writeHead(status, headers);
    for await (const chunk of object.content.read(range.start, range.end)) {
      if (response.destroyed) return;
      if (!response.write(chunk)) await drained(response);
    }
    response.end();
  } finally {
    object.content.release();
  }
}

/** Until the client has taken what was written, or is gone. */
function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      response.off('drain', done);
      response.off('close', done);
      resolve();
    };
    response.on('drain', done);
    response.on('close', done);
  });
}

async function describe(
  call: Call,
  object: StoredObject,
): Promise<{ status: number; headers: Record<string, string | number>; range: Range }> {
  const headers: Record<string, string | number | undefined> = {
    'last-modified': object.lastModified.toUTCString(),
    etag: object.etag,
    'accept-ranges': 'bytes',
    ...object.headers,
    ...Object.fromEntries(Object.entries(object.metadata).map(([name, value]) => [`x-amz-meta-${name}`, value])),
    ...encryptionHeaders(object),
    ...versionHeaders(call, object),
    'x-amz-storage-class': object.storageClass === 'STANDARD' ? undefined : object.storageClass,
    'x-amz-tagging-count': Object.keys(object.tags).length || undefined,
  };
  for (const name of overrides) headers[name] = call.query.get(`response-${name}`) ?? headers[name];
  try {
    checkRead(call, object);
  } catch (error) {
    if (error instanceof S3Error && error.status === 304) call.response.setHeader('etag', object.etag);
    throw error;
  }
  const part = partRange(call, object);
  const range = part ?? readRange(call.header('range'), object.size);
  if (part) {
    headers['x-amz-mp-parts-count'] = object.parts?.length;
    if (call.header('x-amz-checksum-mode')) Object.assign(headers, checksumHeaders(part.checksums, object.checksumType));
  } else if (!range) {
    Object.assign(headers, await checksumsToShow(call, object));
  }
  const { start, end } = range ?? { start: 0, end: object.size };
  headers['content-length'] = end - start;
  if (range && object.size > 0) headers['content-range'] = `bytes ${start}-${end - 1}/${object.size}`;
  const present = Object.entries(headers).filter((entry): entry is [string, string | number] => entry[1] !== undefined);
  return { status: range ? 206 : 200, headers: Object.fromEntries(present), range: { start, end } };
}

function partRange(call: Call, object: StoredObject): (Range & { checksums: StoredObject['checksums'] }) | undefined {
  const text = call.query.get('partNumber');
  if (text === undefined) return undefined;
  if (call.header('range') !== undefined) {
    throw new S3Error('InvalidRequest', { message: 'Cannot specify both Range header and partNumber query parameter' });
  }
  const number = Number(text);
  const parts = object.parts ?? [{ size: object.size, checksums: object.checksums }];
  const part = parts[number - 1];
  if (!part)
    throw new S3Error('InvalidPartNumber', {
      status: 416,
      message: 'The requested partnumber is not satisfiable',
      PartNumberRequested: text,
    });
  const start = parts.slice(0, number - 1).reduce((sum, { size }) => sum + size, 0);
  return { start, end: start + part.size, checksums: part.checksums };
}

/** The one range of a Range header; undefined where S3 gives all: no header, several ranges, or one it cannot read. */
function readRange(header: string | undefined, size: number): Range | undefined {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header ?? '');
  if (!match || (match[1] === '' && match[2] === '')) return undefined;
  const [first, last] = [match[1], match[2]].map((text) => (text === '' ? undefined : Number(text)));
  if (first !== undefined && last !== undefined && last < first) return undefined;
  const start = first ?? Math.max(size - (last ?? 0), 0);
  const end = first === undefined ? size : Math.min((last ?? size) + 1, size);
  if (start >= size) throw new S3Error('InvalidRange', { RangeRequested: header, ActualObjectSize: size });
  return { start, end };
}
