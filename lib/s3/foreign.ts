import type { IncomingHttpHeaders } from 'node:http';

/** What answered speaks HTTP, but is no S3: a login page, a proxy, the console beside the store. */
export class NoS3 extends Error {
  override readonly name = 'NoS3';
  /** It was one a moment ago: something stands in between for now. */
  readonly wasOne: boolean;

  constructor(origin: string, { status, headers }: Answer, wasOne: boolean) {
    const type = headers['content-type'] ?? 'an answer of no type';
    super(`${origin} is no S3: it answers ${status} with ${[type].flat().join()}`);
    this.wasOne = wasOne;
  }
}

/** What can be done about it. */
export const noS3Hint = 'check --s3-endpoint-url, and proxies and login pages on the way to it';

interface Answer {
  status: number;
  headers: IncomingHttpHeaders | Record<string, string>;
}

/** Root elements of good answers (S3 API reference). */
const roots: Record<string, string> = {
  ListObjectsV2Command: 'ListBucketResult',
  ListMultipartUploadsCommand: 'ListMultipartUploadsResult',
  ListPartsCommand: 'ListPartsResult',
  CreateMultipartUploadCommand: 'InitiateMultipartUploadResult',
  CompleteMultipartUploadCommand: 'CompleteMultipartUploadResult',
  CopyObjectCommand: 'CopyObjectResult',
  UploadPartCopyCommand: 'CopyPartResult',
};
/** They may fail after their status is sent: then the body says so, or is empty. */
const late = /^(CompleteMultipartUpload|CopyObject|UploadPartCopy)Command$/;
const objects = /^(PutObject|GetObject|HeadObject|UploadPart)Command$/;

/** True for calls whose good answer is a document. */
export function hasDocument(command: string): boolean {
  return command in roots;
}

/** Whether a document is what S3 answers such a call by; an error document is. */
export function isDocument(command: string, body: Uint8Array): boolean {
  if (body.length === 0) return late.test(command);
  const start = Buffer.from(body.subarray(0, 4096)).toString('utf8');
  const [, root] = /^[\s\uFEFF]*(?:<\?xml[^>]*>)?(?:\s|<!--[\s\S]*?-->)*<(?:\w+:)?(\w+)[\s/>]/.exec(start) ?? [];
  return root === 'Error' || root === roots[command];
}

/** True for calls whose good answer tells of an object in its headers. */
export function isAboutObject(command: string): boolean {
  return objects.test(command);
}

/** Whether headers are those of an object or part: all have an ETag, and a page, which may have one too, none of S3's own. */
export function hasObjectHeaders(headers: Answer['headers']): boolean {
  const names = Object.keys(headers);
  if (!names.includes('etag')) return false;
  return !/^text\/html/i.test(String(headers['content-type'])) || names.some((name) => name.startsWith('x-amz-'));
}
