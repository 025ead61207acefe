import { randomBytes } from 'node:crypto';
import { type Body, declaredChecksum, receiveBody } from './body.ts';
import type { Call } from './call.ts';
import { type Checksums, type ChecksumType, isCrc } from './checksums.ts';
import { sliceContent } from './content.ts';
import { checkCopySize, contentMd5, findCopySource } from './copy.ts';
import { S3Error } from './errors.ts';
import { checksumElements, checksumHeaders, digestContent, requestedAlgorithm } from './object-checksums.ts';
import { encryptionHeaders, etagOf, readProperties } from './properties.ts';
import type { Part, Upload } from './state.ts';
import { element, elements } from './xml.ts';

const mostParts = 10_000;
let uploadsMade = 0;

/** CreateMultipartUpload: settles the checksum algorithm and what is said of the object. */
export function createMultipartUpload(call: Call): void {
  const { bucket } = call;
  const checksumAlgorithm = requestedAlgorithm(call);
  const checksumType = checksumAlgorithm && readChecksumType(call, checksumAlgorithm);
  uploadsMade += 1;
  const upload: Upload = {
    id: `${Date.now().toString(36)}${uploadsMade.toString(36).padStart(6, '0')}${randomBytes(12).toString('hex')}`,
    key: call.key,
    initiated: new Date(Date.now() + bucket.aheadMs),
    properties: readProperties(call),
    checksumAlgorithm,
    checksumType,
    parts: new Map(),
  };
  bucket.uploads.set(upload.id, upload);
  call.sendXml(element('InitiateMultipartUploadResult', elements({ Bucket: bucket.name, Key: call.key, UploadId: upload.id })), {
    ...encryptionHeaders(upload.properties),
    'x-amz-checksum-algorithm': checksumAlgorithm?.toUpperCase(),
    'x-amz-checksum-type': checksumType,
  });
}

/** UploadPart: replaces an older part of that number. */
export async function uploadPart(call: Call): Promise<void> {
  const number = partNumber(call);
  const upload = findUpload(call);
  const declared = declaredChecksum(call)?.algorithm;
  const wanted = upload.checksumAlgorithm;
  const computable = declared === undefined && upload.checksumType === 'FULL_OBJECT';
  if (wanted && declared !== wanted && !computable) {
    throw new S3Error('InvalidRequest', {
      message: `Checksum Type mismatch occurred, expected checksum Type: ${wanted}, actual checksum Type: ${declared ?? 'null'}`,
    });
  }
  const body = await receiveBody(call, wanted);
  const part = keepPart(call, upload, number, body);
  call.send(200, { etag: part.etag, ...checksumHeaders(part.checksums, undefined), ...encryptionHeaders(upload.properties) });
}

/** UploadPartCopy: a range of another object as a part. */
export async function uploadPartCopy(call: Call): Promise<void> {
  const number = partNumber(call);
  const upload = findUpload(call);
  const { object, versionId } = findCopySource(call);
  const { start, end } = readCopyRange(call.header('x-amz-copy-source-range'), object.size);
  checkCopySize(call, end - start);
  const content = sliceContent(object.content, start, end);
  let part: Part;
  try {
    const md5 = await contentMd5(call, content);
    const algorithm = upload.checksumAlgorithm;
    const digest = algorithm && (await digestContent(content, algorithm));
    part = keepPart(call, upload, number, { content, md5, checksums: algorithm && digest ? { [algorithm]: digest } : {} });
  } catch (error) {
    content.release();
    throw error;
  }
  call.sendXml(
    element('CopyPartResult', [
      ...elements({ ETag: part.etag, LastModified: part.lastModified.toISOString() }),
      ...checksumElements(part.checksums),
    ]),
    { ...encryptionHeaders(upload.properties), 'x-amz-copy-source-version-id': versionId },
  );
}

/** AbortMultipartUpload: frees the parts. */
export function abortMultipartUpload(call: Call): void {
  endUpload(call, findUpload(call), []);
  call.send(204);
}

/** The open upload that the query names; else 404 NoSuchUpload. */
export function findUpload(call: Call): Upload {
  const id = call.query.get('uploadId') ?? '';
  const upload = call.bucket.uploads.get(id);
  if (upload?.key !== call.key) throw new S3Error('NoSuchUpload', { UploadId: id });
  return upload;
}

/** Closes an upload and frees every part that is not kept. */
export function endUpload(call: Call, upload: Upload, kept: Part[]): void {
  call.bucket.uploads.delete(upload.id);
  for (const part of upload.parts.values()) if (!kept.includes(part)) part.content.release();
}

/** Puts the part in place of an older one of its number; the upload may have ended while the bytes came. */
function keepPart(call: Call, upload: Upload, number: number, body: Body): Part {
  if (!call.world.buckets.get(call.bucketName)?.uploads.has(upload.id)) {
    body.content.release();
    throw new S3Error('NoSuchUpload', { UploadId: upload.id });
  }
  upload.parts.get(number)?.content.release();
  const checksums: Checksums = body.checksums;
  const etag = etagOf(body.md5, upload.properties.encryption);
  const part: Part = { number, size: body.content.size, etag, lastModified: new Date(), checksums, content: body.content };
  upload.parts.set(number, part);
  return part;
}

function partNumber(call: Call): number {
  const text = call.query.get('partNumber') ?? '';
  const number = Number(text);
  if (!/^\d+$/.test(text) || number < 1 || number > mostParts) {
    throw new S3Error('InvalidArgument', {
      message: `Part number must be an integer between 1 and ${mostParts}, inclusive`,
      ArgumentName: 'partNumber',
      ArgumentValue: text,
    });
  }
  return number;
}

function readChecksumType(call: Call, algorithm: NonNullable<Upload['checksumAlgorithm']>): ChecksumType {
  const type = call.header('x-amz-checksum-type')?.toUpperCase() ?? (algorithm === 'crc64nvme' ? 'FULL_OBJECT' : 'COMPOSITE');
  const possible = type === 'FULL_OBJECT' ? isCrc(algorithm) : type === 'COMPOSITE' && algorithm !== 'crc64nvme';
  if (possible) return type as ChecksumType;
  throw new S3Error('InvalidRequest', {
    message: `The ${type} checksum type cannot be used with the ${algorithm} checksum algorithm.`,
  });
}

function readCopyRange(header: string | undefined, size: number): { start: number; end: number } {
  if (header === undefined) return { start: 0, end: size };
  const match = /^bytes=(\d+)-(\d+)$/.exec(header);
  if (!match) {
    throw new S3Error('InvalidArgument', {
      message:
        'The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy',
      ArgumentName: 'x-amz-copy-source-range',
      ArgumentValue: header,
    });
  }
  const [start, end] = [Number(match[1]), Number(match[2]) + 1];
  if (start >= end || end > size) {
    throw new S3Error('InvalidArgument', {
      message: `Range specified is not valid for source object of size: ${size}`,
      ArgumentName: 'x-amz-copy-source-range',
      ArgumentValue: header,
    });
  }
  return { start, end };
}
