import { randomBytes } from 'node:crypto';
import type { Call } from './call.ts';
import { S3Error } from './errors.ts';
import type { Encryption, Properties, StoredObject } from './state.ts';

const keptHeaders = ['content-type', 'cache-control', 'content-disposition', 'content-encoding', 'content-language', 'expires'];
const storageClasses = [
  'STANDARD',
  'REDUCED_REDUNDANCY',
  'STANDARD_IA',
  'ONEZONE_IA',
  'INTELLIGENT_TIERING',
  'GLACIER',
  'DEEP_ARCHIVE',
  'OUTPOSTS',
  'GLACIER_IR',
  'SNOW',
  'EXPRESS_ONEZONE',
];
const encryptions = ['AES256', 'aws:kms', 'aws:kms:dsse'];

/** What the headers of a write say of the object. */
export function readProperties(call: Call): Properties {
  return {
    headers: readHeaders(call),
    metadata: readMetadata(call),
    tags: parseTagHeader(call.header('x-amz-tagging')),
    storageClass: readStorageClass(call),
    encryption: readEncryption(call),
  };
}

/** The headers that are kept as they are; `aws-chunked` is taken off Content-Encoding. */
export function readHeaders(call: Call): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const name of keptHeaders) {
    let value = call.header(name);
    if (name === 'content-encoding') value = value?.replace(/(^|,)\s*aws-chunked\s*(,|$)/, '').trim();
    if (value) headers[name] = value;
  }
  headers['content-type'] ??= 'binary/octet-stream';
  return headers;
}

/** x-amz-meta-* within 2048 bytes, names and values together. */
export function readMetadata(call: Call): Record<string, string> {
  const metadata = Object.fromEntries(call.headersBehind('x-amz-meta-'));
  const size = Object.entries(metadata).reduce((sum, [name, value]) => sum + name.length + Buffer.byteLength(value), 0);
  if (size > 2048) throw new S3Error('MetadataTooLarge', { Size: size, MaxSizeAllowed: 2048 });
  return metadata;
}

/** STANDARD unless asked otherwise; 400 for a class that S3 does not have. */
export function readStorageClass(call: Call): string {
  const storageClass = call.header('x-amz-storage-class') ?? 'STANDARD';
  if (!storageClasses.includes(storageClass)) {
    throw new S3Error('InvalidStorageClass', {
      message: 'The storage class you specified is not valid',
      StorageClassRequested: storageClass,
    });
  }
  return storageClass;
}

/** AES256 when nothing is asked for, as AWS does since 2023. */
export function readEncryption(call: Call): Encryption {
  if (call.header('x-amz-server-side-encryption-customer-algorithm') !== undefined) {
    throw new S3Error('NotImplemented', { Header: 'x-amz-server-side-encryption-customer-algorithm' });
  }
  const algorithm = call.header('x-amz-server-side-encryption') ?? 'AES256';
  const kmsKeyId = call.header('x-amz-server-side-encryption-aws-kms-key-id');
  if (!encryptions.includes(algorithm) || (kmsKeyId !== undefined && algorithm === 'AES256')) {
    throw new S3Error('InvalidArgument', {
      message: 'The encryption method specified is not supported',
      ArgumentName: 'x-amz-server-side-encryption',
      ArgumentValue: algorithm,
    });
  }
  return algorithm === 'AES256' ? { algorithm } : { algorithm, kmsKeyId: kmsKeyId ?? 'arn:aws:kms:us-east-1:111122223333:alias/aws/s3' };
}

/** `a=1&b=2`, as x-amz-tagging has it. */
export function parseTagHeader(text: string | undefined): Record<string, string> {
  return checkTags([...new URLSearchParams(text ?? '')]);
}

/** The tags as a record, within S3's limits: 10 tags, keys of 128 and values of 256 characters, no key twice. */
export function checkTags(tags: [name: string, value: string][]): Record<string, string> {
  if (tags.length > 10) throw new S3Error('BadRequest', { message: 'Object tags cannot be greater than 10' });
  if (new Set(tags.map(([name]) => name)).size < tags.length) {
    throw new S3Error('InvalidTag', { message: 'Cannot provide multiple Tags with the same key' });
  }
  for (const [name, value] of tags) {
    if (name === '' || name.length > 128)
      throw new S3Error('InvalidTag', { message: 'The TagKey you have provided is invalid', TagKey: name });
    if (value.length > 256) throw new S3Error('InvalidTag', { message: 'The TagValue you have provided is invalid', TagValue: value });
  }
  return Object.fromEntries(tags);
}

/** The headers that tell how something is encrypted. */
export function encryptionHeaders({ encryption }: { encryption: Encryption }): Record<string, string | undefined> {
  return {
    'x-amz-server-side-encryption': encryption.algorithm,
    'x-amz-server-side-encryption-aws-kms-key-id': encryption.kmsKeyId,
  };
}

/** The version's id, where the bucket has versions. */
export function versionHeaders(call: Call, object: StoredObject): Record<string, string | undefined> {
  return { 'x-amz-version-id': call.bucket.versioning && object.versionId };
}

/** The ETag that S3 gives to a body: its MD5, but another one each time when KMS encrypts it, with a key of that object's own. */
export function etagOf(md5: Buffer, encryption: Encryption): string {
  const digest = encryption.algorithm === 'AES256' ? md5 : randomBytes(16);
  return `"${digest.toString('hex')}"`;
}
