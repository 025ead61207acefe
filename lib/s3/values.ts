import type { GetObjectCommandOutput, HeadObjectCommandOutput } from '@aws-sdk/client-s3';
import type { ObjectInfo } from '../store.ts';

/** What an answer says of its object; `size` where the body is known. */
export function objectInfo(
  key: string,
  answer: HeadObjectCommandOutput | GetObjectCommandOutput,
  size = answer.ContentLength ?? 0,
): ObjectInfo {
  const metadata = Object.fromEntries(Object.entries(answer.Metadata ?? {}).map(([name, value]) => [name.toLowerCase(), value]));
  return {
    key,
    size,
    etag: unquoted(answer.ETag),
    lastModified: answer.LastModified ?? new Date(0),
    versionId: answer.VersionId,
    metadata,
    checksum: checksumOf(answer),
  };
}

/** The checksum that an answer carries, as the Store writes it. */
export function checksumOf(answer: { ChecksumCRC64NVME?: string | undefined; ChecksumCRC32?: string | undefined }): string | undefined {
  if (answer.ChecksumCRC32 !== undefined) return `crc32:${answer.ChecksumCRC32}`;
  return answer.ChecksumCRC64NVME === undefined ? undefined : `crc64nvme:${answer.ChecksumCRC64NVME}`;
}

/** The value of x-amz-copy-source. */
export function copySource(bucket: string, key: string): string {
  return `${bucket}/${key.split('/').map(encodeURIComponent).join('/')}`;
}

/** ETags stand without quotes in the Store. */
export function unquoted(etag: string | undefined): string {
  return (etag ?? '').replace(/^"|"$/g, '');
}

/** An ETag as headers have it. */
export function quoted(etag: string): string {
  return `"${etag}"`;
}
