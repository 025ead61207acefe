import { createHash } from 'node:crypto';
import { madeUpDigest } from './body.ts';
import { type Call, findBucket, findObject } from './call.ts';
import type { Checksums } from './checksums.ts';
import { checkCopySource, checkWrite } from './conditions.ts';
import type { Content } from './content.ts';
import { S3Error } from './errors.ts';
import { checksumElements, digestContent, requestedAlgorithm } from './object-checksums.ts';
import {
  encryptionHeaders,
  etagOf,
  parseTagHeader,
  readEncryption,
  readHeaders,
  readMetadata,
  readStorageClass,
  versionHeaders,
} from './properties.ts';
import { type Encryption, type Properties, StoredObject } from './state.ts';
import { element, elements } from './xml.ts';

export interface CopySource {
  object: StoredObject;
  bucketName: string;
  versionId: string | undefined;
}

/** The object that x-amz-copy-source names, once its conditions hold. */
export function findCopySource(call: Call): CopySource {
  const [, bucketName, rawKey, versionId] = /^\/?([^/]+)\/([^?]+)(?:\?versionId=(.+))?$/.exec(call.header('x-amz-copy-source') ?? '') ?? [];
  if (bucketName === undefined || rawKey === undefined) {
    throw new S3Error('InvalidArgument', {
      message: 'Copy Source must mention the source bucket and key: sourcebucket/sourcekey',
      ArgumentName: 'x-amz-copy-source',
      ArgumentValue: call.header('x-amz-copy-source'),
    });
  }
  let key: string;
  try {
    key = decodeURIComponent(rawKey);
  } catch {
    throw new S3Error('InvalidArgument', { message: 'Copy Source must be URL-encoded', ArgumentName: 'x-amz-copy-source' });
  }
  const object = findObject(findBucket(call.world, decodeURIComponent(bucketName)), key, versionId);
  checkCopySource(call, object);
  return { object, bucketName, versionId };
}

/** CopyObject: shares the bytes; what is said of the object is copied or replaced by the directives. */
export async function copyObject(call: Call): Promise<void> {
  const { bucket } = call;
  const { object: source, bucketName, versionId } = findCopySource(call);
  const properties = copiedProperties(call, source);
  const toItself = bucketName === bucket.name && source.key === call.key && versionId === undefined;
  if (toItself && !changesSomething(call)) {
    throw new S3Error('InvalidRequest', {
      message:
        "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.",
    });
  }
  checkCopySize(call, source.size);
  source.content.retain();
  let object: StoredObject;
  try {
    const checksums = await copiedChecksums(call, source);
    const etag = await copiedEtag(call, source, properties.encryption);
    checkWrite(call);
    const checksumType = Object.keys(checksums).length > 0 ? 'FULL_OBJECT' : undefined;
    object = new StoredObject(call.key, source.content, etag, properties, { checksums, checksumType });
  } catch (error) {
    source.content.release();
    throw error;
  }
  bucket.add(object);
  call.sendXml(
    element('CopyObjectResult', [
      ...elements({ ETag: object.etag, LastModified: object.lastModified.toISOString() }),
      ...checksumElements(object.checksums, object.checksumType),
    ]),
    {
      ...encryptionHeaders(object),
      ...versionHeaders(call, object),
      'x-amz-copy-source-version-id': source.versionId === 'null' ? undefined : source.versionId,
    },
  );
}

/** Refuses to copy at once more than S3 does. */
export function checkCopySize(call: Call, size: number): void {
  const most = call.settings.maxPutSize;
  if (size > most) {
    throw new S3Error('InvalidRequest', {
      message: `The specified copy source is larger than the maximum allowable size for a copy source: ${most}`,
    });
  }
}

/** The MD5 of a content, or a made-up one where bytes are gone or not worth reading. */
export async function contentMd5(call: Call, content: Content): Promise<Buffer> {
  if (content.lost || call.settings.fast) return madeUpDigest();
  const hash = createHash('md5');
  for await (const chunk of content.read(0, content.size)) hash.update(chunk);
  return hash.digest();
}

function copiedProperties(call: Call, source: StoredObject): Properties {
  const directive = readDirective(call, 'x-amz-metadata-directive');
  const tagging = readDirective(call, 'x-amz-tagging-directive');
  return {
    headers: directive === 'REPLACE' ? readHeaders(call) : source.headers,
    metadata: directive === 'REPLACE' ? readMetadata(call) : source.metadata,
    tags: tagging === 'REPLACE' ? parseTagHeader(call.header('x-amz-tagging')) : { ...source.tags },
    storageClass: readStorageClass(call),
    encryption: readEncryption(call),
  };
}

function readDirective(call: Call, name: string): 'COPY' | 'REPLACE' {
  const value = call.header(name) ?? 'COPY';
  if (value === 'COPY' || value === 'REPLACE') return value;
  throw new S3Error('InvalidArgument', { message: `Unknown ${name.slice('x-amz-'.length)}.`, ArgumentName: name, ArgumentValue: value });
}

function changesSomething(call: Call): boolean {
  if (call.header('x-amz-metadata-directive') === 'REPLACE') return true;
  return ['x-amz-storage-class', 'x-amz-server-side-encryption', 'x-amz-checksum-algorithm'].some(
    (name) => call.header(name) !== undefined,
  );
}

/** A copy is one piece: it keeps the source's algorithm, over the whole, or gets the one that AWS gives to what has none. */
async function copiedChecksums(call: Call, source: StoredObject): Promise<Checksums> {
  if (call.settings.checksums !== 'verify') return {};
  const [of] = Object.keys(source.checksums) as (keyof Checksums)[];
  const algorithm = requestedAlgorithm(call) ?? of ?? 'crc64nvme';
  const kept = source.checksumType === 'FULL_OBJECT' ? source.checksums[algorithm] : undefined;
  const digest = kept ?? (call.settings.fast ? undefined : await digestContent(source.content, algorithm));
  return digest === undefined ? {} : { [algorithm]: digest };
}

async function copiedEtag(call: Call, source: StoredObject, encryption: Encryption): Promise<string> {
  const plain = source.encryption.algorithm === 'AES256' && encryption.algorithm === 'AES256';
  if (plain && !source.parts) return source.etag;
  return etagOf(await contentMd5(call, source.content), encryption);
}
