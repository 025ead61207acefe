import type { IncomingHttpHeaders } from 'node:http';
import { Readable } from 'node:stream';
import type { PutObjectCommandInput, UploadPartCommandInput } from '@aws-sdk/client-s3';
import type { DirectWrite, WholeAnswer } from '../direct/connections.ts';
import { type HttpAnswer, readBody } from '../http/answer.ts';
import { networkError } from '../http/errors.ts';
import { send } from '../http/request.ts';
import { agents } from '../network.ts';
import { objectUrl } from '../s3-get.ts';
import type { S3Settings } from '../s3-settings.ts';
import { signed } from '../s3-signature.ts';
import { version } from '../version.ts';
import { hasObjectHeaders } from './foreign.ts';

/** The input of a put or of a part, as far as this house fills it in. */
export type Write = Pick<PutObjectCommandInput, 'Metadata' | keyof typeof headerOf> &
  Partial<Pick<UploadPartCommandInput, 'UploadId' | 'PartNumber'>> & {
    Bucket: string;
    Key: string;
    Body: Uint8Array;
    ContentLength: number;
  };

/** S3 API reference, PutObject and UploadPart. */
const headerOf = {
  ChecksumCRC32: 'x-amz-checksum-crc32',
  ContentType: 'content-type',
  IfMatch: 'if-match',
  IfNoneMatch: 'if-none-match',
  SSEKMSKeyId: 'x-amz-server-side-encryption-aws-kms-key-id',
  ServerSideEncryption: 'x-amz-server-side-encryption',
  StorageClass: 'x-amz-storage-class',
  Tagging: 'x-amz-tagging',
} as const;

export interface QuickOptions {
  settings: S3Settings;
  region: string;
  signingDate: Date;
  signal: AbortSignal;
  /** ms */
  stallTimeout: number;
}

/** What a store says of what it has taken. */
export interface Done {
  ETag: string;
  VersionId: string | undefined;
  ChecksumCRC32: string | undefined;
}

/** What a store answered to a write: when it is no plain success, the answer itself, for who knows S3's errors. */
export type Written = { done: Done; headers: IncomingHttpHeaders } | { done?: undefined; answer: HttpAnswer };

/** Where a write goes. */
export function writeUrl({ Key, UploadId, PartNumber }: Write, settings: S3Settings, region: string): URL {
  const url = objectUrl(Key, settings, region);
  if (UploadId !== undefined) {
    url.searchParams.set('partNumber', String(PartNumber));
    url.searchParams.set('uploadId', UploadId);
  }
  return url;
}

/**
 * Sends a body that a crc32 header protects, without the layers of the SDK: they take half a millisecond of CPU for each request, which is most of
 * what a small file costs. Throws what `send` throws.
 */
export async function quickWrite(write: Write, url: URL, { signal, stallTimeout, ...signing }: QuickOptions): Promise<Written> {
  const plain = Object.entries(headerOf).flatMap(([name, header]) => {
    const value = write[name as keyof typeof headerOf];
    return value === undefined ? [] : [[header, value]];
  });
  const metadata = Object.entries(write.Metadata ?? {}).map(([name, value]) => [`x-amz-meta-${name.toLowerCase()}`, value]);
  const headers = {
    'content-type': 'application/octet-stream',
    ...Object.fromEntries([...plain, ...metadata]),
    'user-agent': `modelferry/${version}`,
    'x-amz-content-sha256': 'UNSIGNED-PAYLOAD',
  };
  const asked = await signed({ method: 'PUT', url, headers }, signing);
  const request = { headers: asked, body: write.Body, signal, stallTimeout };
  const direct = isConditional(write) ? undefined : await putDirect(url, request);
  if (typeof direct === 'object') {
    if (isDone(direct)) return { done: doneOf(direct), headers: direct.headers };
    return { answer: { ...direct, body: Readable.from(direct.body), leave: () => {} } };
  }
  const answer = await send(url.href, { ...request, method: 'PUT', careful: direct === 'unheard' });
  if (!isDone(answer)) return { answer };
  await readBody(answer);
  return { done: doneOf(answer), headers: answer.headers };
}

function isConditional({ IfMatch, IfNoneMatch }: Write): boolean {
  return IfMatch !== undefined || IfNoneMatch !== undefined;
}

/** Past node:http too, where nothing stands in between: for writes that may be done twice as well as once. */
async function putDirect(url: URL, request: DirectWrite): Promise<WholeAnswer | 'unheard' | undefined> {
  try {
    return await agents().direct?.put(url, request);
  } catch (error) {
    throw networkError(url, error, request.signal);
  }
}

type Answered = Pick<HttpAnswer, 'status' | 'headers'>;

function isDone({ status, headers }: Answered): boolean {
  return status < 300 && hasObjectHeaders(headers);
}

function doneOf({ headers }: Answered): Done {
  const header = (name: string) => headers[name]?.toString();
  return { ETag: header('etag') ?? '', VersionId: header('x-amz-version-id'), ChecksumCRC32: header('x-amz-checksum-crc32') };
}
