import { declaredChecksum, receiveBody, receiveXml } from './body.ts';
import { type Call, expectRoot, findObject, requireDigest } from './call.ts';
import type { Algorithm } from './checksums.ts';
import { checkWrite, sameEtag } from './conditions.ts';
import { memoryContent } from './content.ts';
import { S3Error } from './errors.ts';
import { checksumHeaders } from './object-checksums.ts';
import { checkTags, encryptionHeaders, etagOf, readProperties, versionHeaders } from './properties.ts';
import { type Bucket, StoredObject } from './state.ts';
import { all, element, elements, textOf } from './xml.ts';

const mostKeysAtOnce = 1000;

/** PutObject: conditions are checked when the body has arrived, so that of several writers one wins. */
export async function putObject(call: Call): Promise<void> {
  void call.bucket;
  const properties = readProperties(call);
  const { content, md5, checksums } = await receiveBody(call, defaultAlgorithm(call));
  try {
    checkWrite(call);
  } catch (error) {
    content.release();
    throw error;
  }
  const checksumType = Object.keys(checksums).length > 0 ? 'FULL_OBJECT' : undefined;
  const object = new StoredObject(call.key, content, etagOf(md5, properties.encryption), properties, { checksums, checksumType });
  call.bucket.add(object);
  call.send(200, {
    etag: object.etag,
    ...checksumHeaders(checksums, checksumType),
    ...encryptionHeaders(object),
    ...versionHeaders(call, object),
  });
}

/** DeleteObject: 204 also where nothing is. */
export function deleteObject(call: Call): void {
  const versionId = call.query.get('versionId');
  if (versionId === undefined && call.header('if-match') !== undefined && call.settings.conditionalWrites !== 'ceph') checkWrite(call);
  const removed = remove(call.bucket, call.key, versionId);
  call.send(204, { 'x-amz-version-id': removed.versionId, 'x-amz-delete-marker': removed.marker ? 'true' : undefined });
}

/** DeleteObjects: up to 1000 keys, each with its own result. */
export async function deleteObjects(call: Call): Promise<void> {
  const { bucket, settings } = call;
  requireDigest(call);
  const root = expectRoot(await receiveXml(call), 'Delete');
  const wanted = all(root, 'Object').map((node) => ({
    key: textOf(node, 'Key') ?? '',
    versionId: textOf(node, 'VersionId'),
    etag: textOf(node, 'ETag'),
  }));
  if (wanted.length === 0 || wanted.length > mostKeysAtOnce || wanted.some(({ key }) => key === '')) throw new S3Error('MalformedXML');
  const quiet = textOf(root, 'Quiet') === 'true';
  const results = wanted.map(({ key, versionId, etag }) => {
    try {
      if (settings.deny('DeleteObject', key, bucket.name)) throw new S3Error('AccessDenied');
      if (etag !== undefined) checkEtag(bucket, key, etag);
      const { marker, versionId: removed } = remove(bucket, key, versionId);
      const details = elements({
        Key: key,
        VersionId: versionId,
        DeleteMarker: marker || undefined,
        DeleteMarkerVersionId: marker ? removed : undefined,
      });
      return quiet ? '' : element('Deleted', details);
    } catch (error) {
      if (!(error instanceof S3Error)) throw error;
      return element('Error', elements({ Key: key, VersionId: versionId, Code: error.code, Message: error.message }));
    }
  });
  call.sendXml(element('DeleteResult', results));
}

/** GetObjectTagging. */
export function getObjectTagging(call: Call): void {
  const object = findObject(call.bucket, call.key, call.query.get('versionId'));
  const tags = Object.entries(object.tags).map(([Key, Value]) => element('Tag', elements({ Key, Value })));
  call.sendXml(element('Tagging', [element('TagSet', tags)]), versionHeaders(call, object));
}

/** PutObjectTagging: replaces all tags. */
export async function putObjectTagging(call: Call): Promise<void> {
  const root = expectRoot(await receiveXml(call), 'Tagging');
  const object = findObject(call.bucket, call.key, call.query.get('versionId'));
  const tags = all(root, 'TagSet').flatMap((set) => all(set, 'Tag'));
  object.tags = checkTags(tags.map((tag) => [textOf(tag, 'Key') ?? '', textOf(tag, 'Value') ?? '']));
  call.send(200, versionHeaders(call, object));
}

/** DeleteObjectTagging. */
export function deleteObjectTagging(call: Call): void {
  const object = findObject(call.bucket, call.key, call.query.get('versionId'));
  object.tags = {};
  call.send(204, versionHeaders(call, object));
}

/** What AWS computes itself where the client sends no checksum. */
function defaultAlgorithm(call: Call): Algorithm | undefined {
  return call.settings.checksums === 'verify' && !declaredChecksum(call) ? 'crc64nvme' : undefined;
}

function checkEtag(bucket: Bucket, key: string, etag: string): void {
  const current = bucket.latest(key);
  if (!current) throw new S3Error('NoSuchKey');
  if (etag !== '*' && !sameEtag(etag, current.etag)) throw new S3Error('PreconditionFailed');
}

/** Deletes a version for good, or the current object: that leaves a delete marker where the bucket keeps versions. */
function remove(bucket: Bucket, key: string, versionId: string | undefined): { versionId: string | undefined; marker: boolean } {
  if (versionId !== undefined) {
    const marker = bucket.version(key, versionId)?.deleteMarker ?? false;
    bucket.drop(key, versionId);
    return { versionId, marker };
  }
  if (!bucket.versioning) {
    bucket.drop(key, 'null');
    return { versionId: undefined, marker: false };
  }
  const nothing = { headers: {}, metadata: {}, tags: {}, storageClass: 'STANDARD', encryption: { algorithm: 'AES256' } };
  const marker = new StoredObject(key, memoryContent([]), '', nothing, { deleteMarker: true });
  bucket.add(marker);
  return { versionId: marker.versionId, marker: true };
}
