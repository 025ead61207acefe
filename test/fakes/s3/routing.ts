import type { IncomingMessage, ServerResponse } from 'node:http';
import { settingOperations, settingVerb } from './bucket-settings.ts';
import {
  createBucket,
  deleteBucket,
  getBucketLocation,
  getBucketVersioning,
  headBucket,
  listBuckets,
  putBucketVersioning,
} from './buckets.ts';
import { Call, type World } from './call.ts';
import { completeMultipartUpload } from './complete.ts';
import { copyObject } from './copy.ts';
import { S3Error } from './errors.ts';
import { listMultipartUploads, listParts } from './list-uploads.ts';
import { listObjects, listObjectsV2, listObjectVersions } from './listing.ts';
import { abortMultipartUpload, createMultipartUpload, uploadPart, uploadPartCopy } from './multipart.ts';
import type { Verb } from './options.ts';
import { getObject, headObject } from './read-object.ts';
import { type SignatureRules, verifySignature } from './signature.ts';
import { readTarget, type Target } from './target.ts';
import { deleteObject, deleteObjects, deleteObjectTagging, getObjectTagging, putObject, putObjectTagging } from './write-object.ts';

const operations: Record<Verb, (call: Call) => void | Promise<void>> = {
  ListBuckets: listBuckets,
  CreateBucket: createBucket,
  HeadBucket: headBucket,
  DeleteBucket: deleteBucket,
  GetBucketLocation: getBucketLocation,
  GetBucketVersioning: getBucketVersioning,
  PutBucketVersioning: putBucketVersioning,
  ...settingOperations,
  ListObjects: listObjects,
  ListObjectsV2: listObjectsV2,
  ListObjectVersions: listObjectVersions,
  PutObject: putObject,
  GetObject: getObject,
  HeadObject: headObject,
  DeleteObject: deleteObject,
  DeleteObjects: deleteObjects,
  CopyObject: copyObject,
  GetObjectTagging: getObjectTagging,
  PutObjectTagging: putObjectTagging,
  DeleteObjectTagging: deleteObjectTagging,
  CreateMultipartUpload: createMultipartUpload,
  UploadPart: uploadPart,
  UploadPartCopy: uploadPartCopy,
  CompleteMultipartUpload: completeMultipartUpload,
  AbortMultipartUpload: abortMultipartUpload,
  ListMultipartUploads: listMultipartUploads,
  ListParts: listParts,
};

/** Subresources that the server does not have: to serve them as the object itself would be a wrong answer. */
const unknown = ['acl', 'policy', 'cors', 'object-lock', 'retention', 'legal-hold', 'attributes', 'select', 'restore'];
const longestKey = 1024;

/** Answers one request: reads what it names, verifies who asks, and runs the operation. */
export async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  world: World,
  rules: SignatureRules & { domain: string; requestId: string },
): Promise<void> {
  response.setHeader('x-amz-request-id', rules.requestId);
  response.setHeader('x-amz-id-2', 'fake-s3');
  response.setHeader('server', 'AmazonS3');
  if (rules.clockAheadMs) response.setHeader('date', new Date(Date.now() + rules.clockAheadMs).toUTCString());
  try {
    const target = readTarget(request, rules.domain, (name) => world.buckets.has(name));
    const signing = world.settings.fast ? undefined : verifySignature(request, target, rules);
    const verb = verbOf(request, target);
    if (Buffer.byteLength(target.key) > longestKey) {
      throw new S3Error('KeyTooLongError', { Size: Buffer.byteLength(target.key), MaxSizeAllowed: longestKey });
    }
    if (world.settings.deny(verb, target.key, target.bucket)) throw new S3Error('AccessDenied');
    if (world.settings.notImplemented.includes(verb)) throw new S3Error('NotImplemented');
    if (world.settings.pretends.includes(verb)) return void response.writeHead(200, { 'content-length': 0 }).end();
    await operations[verb](new Call({ request, response }, world, { ...target, verb, signing }));
  } catch (error) {
    await drain(request);
    const known = error instanceof S3Error ? error : new S3Error('InternalError', { message: String((error as Error).stack ?? error) });
    refuse(request, response, known, rules.requestId);
  }
  await drain(request);
}

/** Writes an error: XML, but nothing behind the headers of HEAD and 304. */
function refuse(request: IncomingMessage, response: ServerResponse, error: S3Error, requestId: string): void {
  if (response.headersSent) return void response.destroy();
  if (request.method === 'HEAD' || error.status === 304) {
    response.writeHead(error.status);
    response.end();
    return;
  }
  const body = error.xml((request.url ?? '').split('?')[0] ?? '', requestId);
  response.writeHead(error.status, { 'content-type': 'application/xml', 'content-length': Buffer.byteLength(body) });
  response.end(body);
}

/** Takes in what is left of the body, so that the client can read the answer. */
async function drain(request: IncomingMessage): Promise<void> {
  if (request.readableEnded || request.destroyed) return;
  await new Promise<void>((resolve) => {
    request.once('end', resolve);
    request.once('close', resolve);
    request.resume();
  });
}

function verbOf(request: IncomingMessage, { bucket, key, query }: Target): Verb {
  const missing = unknown.find((name) => query.has(name));
  if (missing !== undefined) throw new S3Error('NotImplemented', { message: `The ${missing} subresource is not implemented` });
  const verb = key !== '' ? objectVerb(request, query) : bucket !== '' ? bucketVerb(request.method, query) : serviceVerb(request.method);
  if (!verb) throw new S3Error('MethodNotAllowed', { Method: request.method ?? '' });
  return verb;
}

function serviceVerb(method: string | undefined): Verb | undefined {
  return method === 'GET' ? 'ListBuckets' : undefined;
}

function bucketVerb(method: string | undefined, query: Map<string, string>): Verb | undefined {
  const setting = settingVerb(method, query);
  if (setting !== undefined) return setting;
  if (method === 'HEAD') return 'HeadBucket';
  if (method === 'DELETE') return 'DeleteBucket';
  if (method === 'POST') return query.has('delete') ? 'DeleteObjects' : undefined;
  if (method === 'PUT') return query.has('versioning') ? 'PutBucketVersioning' : 'CreateBucket';
  if (method !== 'GET') return undefined;
  if (query.has('location')) return 'GetBucketLocation';
  if (query.has('versioning')) return 'GetBucketVersioning';
  if (query.has('versions')) return 'ListObjectVersions';
  if (query.has('uploads')) return 'ListMultipartUploads';
  return query.get('list-type') === '2' ? 'ListObjectsV2' : 'ListObjects';
}

function objectVerb({ method, headers }: IncomingMessage, query: Map<string, string>): Verb | undefined {
  const copies = headers['x-amz-copy-source'] !== undefined;
  if (query.has('uploadId')) {
    if (method === 'PUT') return copies ? 'UploadPartCopy' : 'UploadPart';
    return ({ GET: 'ListParts', POST: 'CompleteMultipartUpload', DELETE: 'AbortMultipartUpload' } as Record<string, Verb>)[method ?? ''];
  }
  if (query.has('tagging')) {
    return ({ GET: 'GetObjectTagging', PUT: 'PutObjectTagging', DELETE: 'DeleteObjectTagging' } as Record<string, Verb>)[method ?? ''];
  }
  if (method === 'POST') return query.has('uploads') ? 'CreateMultipartUpload' : undefined;
  if (method === 'PUT') return copies ? 'CopyObject' : 'PutObject';
  return ({ GET: 'GetObject', HEAD: 'HeadObject', DELETE: 'DeleteObject' } as Record<string, Verb>)[method ?? ''];
}
