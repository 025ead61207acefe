import {
  AbortMultipartUploadCommand,
  type CompletedPart,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  ListMultipartUploadsCommand,
  ListPartsCommand,
  UploadPartCopyCommand,
} from '@aws-sdk/client-s3';
import { kindOf, StepError } from '../errors.ts';
import type { MultipartUpload, ObjectInfo, OpenUpload, StoredPart, StoreLimits, UploadedPart } from '../store.ts';
import { mapLimited } from '../transfer/pool.ts';
import { bodyCrc32Base64 } from './checksums.ts';
import type { S3Connection } from './connection.ts';
import { NoS3 } from './foreign.ts';
import type { Write } from './quick-write.ts';
import { checksumOf, copySource, quoted, unquoted } from './values.ts';

/** Large enough for few requests, small enough for several at once; a part that is copied costs no memory here. */
const copyPartBytes = 1024 ** 3;
const copyConnections = 8;

/** Objects in parts: the multipart half of the Store. */
export class Multiparts {
  readonly #s3: S3Connection;

  constructor(s3: S3Connection) {
    this.#s3 = s3;
  }

  async begin(key: string, { metadata }: { size: number; partSize: number; metadata?: Record<string, string> }): Promise<MultipartUpload> {
    return await this.#begin(key, metadata, this.#s3.mode === 'crc32');
  }

  async #begin(key: string, metadata: Record<string, string> | undefined, withCrc32: boolean): Promise<MultipartUpload> {
    const input = {
      Bucket: this.#s3.bucket,
      Key: key,
      ...(metadata ? { Metadata: metadata } : {}),
      ...this.#s3.encryption(),
      ...this.#s3.modelHeaders(),
      ...(withCrc32 ? { ChecksumAlgorithm: 'CRC32' as const } : {}),
    };
    const answer = await this.#s3.send(`begin upload of ${key}`, (client, sent) =>
      client.send(new CreateMultipartUploadCommand(input), sent),
    );
    if (answer.UploadId === undefined) throw new StepError('transient', `failed to begin upload of ${key}: the store gave no upload id`);
    return { key, uploadId: answer.UploadId };
  }

  async upload({ key, uploadId }: MultipartUpload, number: number, bytes: Uint8Array): Promise<UploadedPart> {
    const input: Write = {
      Bucket: this.#s3.bucket,
      Key: key,
      UploadId: uploadId,
      PartNumber: number,
      Body: bytes,
      ContentLength: bytes.length,
      ...(this.#s3.mode === 'crc32' ? { ChecksumCRC32: await bodyCrc32Base64(bytes) } : {}),
    };
    const answer = await this.#s3.write(`send part ${number} of ${key}`, input);
    return { number, etag: unquoted(answer.ETag), checksum: this.#s3.mode === 'crc32' ? `crc32:${input.ChecksumCRC32}` : undefined };
  }

  async list(prefix: string): Promise<OpenUpload[] | undefined> {
    return await unlessDenied(async () => {
      const found: OpenUpload[] = [];
      let marker: { KeyMarker?: string | undefined; UploadIdMarker?: string | undefined } = {};
      for (;;) {
        const input = { Bucket: this.#s3.bucket, Prefix: prefix, ...marker };
        const page = await this.#s3.send(`list uploads of ${prefix}`, (client, sent) =>
          client.send(new ListMultipartUploadsCommand(input), sent),
        );
        for (const { Key, UploadId, Initiated } of page.Uploads ?? []) {
          if (Key && UploadId) found.push({ key: Key, uploadId: UploadId, initiated: Initiated ?? new Date(0) });
        }
        if (!page.IsTruncated) return found;
        marker = { KeyMarker: page.NextKeyMarker, UploadIdMarker: page.NextUploadIdMarker };
      }
    });
  }

  async listParts({ key, uploadId }: MultipartUpload): Promise<StoredPart[] | undefined> {
    const list = async () => {
      const parts: StoredPart[] = [];
      let marker: string | undefined;
      do {
        const input = { Bucket: this.#s3.bucket, Key: key, UploadId: uploadId, PartNumberMarker: marker };
        const page = await this.#s3.send(`list parts of ${key}`, (client, sent) => client.send(new ListPartsCommand(input), sent));
        for (const part of page.Parts ?? []) {
          parts.push({ number: part.PartNumber ?? 0, size: part.Size ?? 0, etag: unquoted(part.ETag), checksum: checksumOf(part) });
        }
        marker = page.IsTruncated ? page.NextPartNumberMarker : undefined;
      } while (marker !== undefined);
      return parts;
    };
    return await this.#s3.orUndefined(async () => {
      const parts = await unlessDenied(list);
      if (parts === undefined) this.#s3.options.log.warn({ key }, 'this store does not list the parts of an upload: all of them are sent');
      return parts ?? [];
    });
  }

  async complete({ key, uploadId }: MultipartUpload, parts: readonly UploadedPart[], size: number): Promise<ObjectInfo> {
    const Parts: CompletedPart[] = parts.map(({ number, etag, checksum }) => ({
      PartNumber: number,
      ETag: quoted(etag),
      ...(checksum?.startsWith('crc32:') ? { ChecksumCRC32: checksum.slice('crc32:'.length) } : {}),
    }));
    const input = { Bucket: this.#s3.bucket, Key: key, UploadId: uploadId, MultipartUpload: { Parts } };
    const answer = await this.#s3.send(`complete ${key}`, (client, sent) => client.send(new CompleteMultipartUploadCommand(input), sent));
    return {
      key,
      size,
      etag: unquoted(answer.ETag),
      lastModified: this.#s3.now(),
      versionId: answer.VersionId,
      checksum: checksumOf(answer),
    };
  }

  async abort({ key, uploadId }: MultipartUpload): Promise<void> {
    const input = { Bucket: this.#s3.bucket, Key: key, UploadId: uploadId };
    await this.#s3.orUndefined(() =>
      this.#s3.send(`abort upload of ${key}`, (client, sent) => client.send(new AbortMultipartUploadCommand(input), sent)),
    );
  }

  /** A server-side copy of what is too large for one request; fails unless the source still has that etag. */
  async copy(source: ObjectInfo, key: string, metadata: Record<string, string>, { maxCopy }: StoreLimits): Promise<ObjectInfo> {
    const partSize = Math.min(copyPartBytes, maxCopy);
    // Its bytes pass no wire of ours. A completion that must name each part's checksum fails where copied parts are told without.
    const upload = await this.#begin(key, metadata, false);
    const numbers = Array.from({ length: Math.ceil(source.size / partSize) }, (_, index) => index + 1);
    try {
      const parts = await mapLimited(numbers, copyConnections, async (number): Promise<UploadedPart> => {
        const start = (number - 1) * partSize;
        const end = Math.min(source.size, start + partSize) - 1;
        const input = {
          Bucket: this.#s3.bucket,
          Key: key,
          UploadId: upload.uploadId,
          PartNumber: number,
          CopySource: copySource(this.#s3.bucket, source.key),
          CopySourceRange: `bytes=${start}-${end}`,
          CopySourceIfMatch: quoted(source.etag),
        };
        const answer = await this.#s3.send(`copy part ${number} of ${key}`, (client, sent) =>
          client.send(new UploadPartCopyCommand(input), sent),
        );
        return { number, etag: unquoted(answer.CopyPartResult?.ETag), checksum: undefined };
      });
      return { ...(await this.complete(upload, parts, source.size)), metadata };
    } catch (error) {
      await this.abort(upload).catch(() => {});
      throw error;
    }
  }
}

/** What a listing gives; undefined where the store denies it or does not know it: a run goes on without. */
async function unlessDenied<T>(list: () => Promise<T>): Promise<T | undefined> {
  try {
    return await list();
  } catch (error) {
    const noS3 = error instanceof StepError && error.cause instanceof NoS3;
    if (noS3 || !['denied', 'usage'].includes(kindOf(error))) throw error;
    return undefined;
  }
}
