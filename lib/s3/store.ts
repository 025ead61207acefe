import { CopyObjectCommand, DeleteObjectCommand, GetObjectCommand, HeadObjectCommand, ListObjectsV2Command } from '@aws-sdk/client-s3';
import { StepError } from '../errors.ts';
import { s3GetRange } from '../s3-get.ts';
import {
  type Condition,
  type MultipartUpload,
  type ObjectInfo,
  type OpenUpload,
  PreconditionFailed,
  type PutOptions,
  type RangeOptions,
  type Store,
  type StoredPart,
  type StoreLimits,
  type UploadedPart,
} from '../store.ts';
import { mapLimited } from '../transfer/pool.ts';
import { bodyCrc32Base64, partHasBytes } from './checksums.ts';
import type { S3Connection } from './connection.ts';
import { isUnexplained, statusOf } from './errors.ts';
import { Multiparts } from './multiparts.ts';
import { probeStore } from './probe.ts';
import type { Write } from './quick-write.ts';
import { checksumOf, copySource, objectInfo, quoted, unquoted } from './values.ts';

/** S3's own limits (user guide, "Amazon S3 multipart upload limits"). */
export const s3Limits: StoreLimits = {
  maxPut: 5 * 1024 ** 3,
  maxCopy: 5 * 1024 ** 3,
  minPart: 5 * 1024 ** 2,
  maxPart: 5 * 1024 ** 3,
  maxParts: 10_000,
};
/** Within the 30 s that Kubernetes leaves between SIGTERM and SIGKILL. */
const cleanUpMs = 20_000;
const deleteConnections = 8;

/** The Store on an S3 bucket. */
export class S3Store implements Store {
  readonly uri: string;
  readonly limits: StoreLimits;
  readonly location: { endpoint?: string | undefined; region?: string | undefined };
  readonly #s3: S3Connection;
  readonly #multiparts: Multiparts;

  /** `limits`: other ones than S3's own, for tests. */
  constructor(connection: S3Connection, limits = s3Limits) {
    this.#s3 = connection;
    this.limits = limits;
    this.#multiparts = new Multiparts(connection);
    this.uri = connection.uri;
    const { endpoint, region } = connection.options.settings;
    this.location = { endpoint, region };
  }

  detached(): Store {
    return new S3Store(this.#s3.detached(AbortSignal.timeout(cleanUpMs), 3), this.limits);
  }

  async probe(probeKey: string): Promise<{ conditionalWrites: boolean }> {
    const { settings, checksum, log } = this.#s3.options;
    // AWS verifies and honours all of it (S3 user guide, "Checking object integrity", "Conditional requests").
    if (settings.aws) return { conditionalWrites: true };
    const found = await probeStore(this.#s3, probeKey);
    await this.delete([probeKey]);
    if (checksum === 'auto') this.#s3.mode = found.verifiesCrc32 ? 'crc32' : 'sha256';
    this.#s3.conditions = found.conditions;
    log.debug({ ...found, mode: this.#s3.mode }, 'store probed');
    return { conditionalWrites: found.conditions !== 'none' };
  }

  async sweep({ probe }: { probe: string }): Promise<void> {
    if (this.#s3.options.settings.aws) return;
    if (await this.head(probe)) await this.delete([probe]);
  }

  now(): Date {
    return this.#s3.now();
  }

  async head(key: string): Promise<ObjectInfo | undefined> {
    const input = { Bucket: this.#s3.bucket, Key: key, ChecksumMode: 'ENABLED' as const };
    const doing = `look at ${key}`;
    return await this.#s3.orUndefined(async () => {
      try {
        return objectInfo(key, await this.#s3.send(doing, (client, sent) => client.send(new HeadObjectCommand(input), sent)));
      } catch (error) {
        // HEAD has no body that could say why: the first byte is asked for by GET, which tells the same, or why not.
        if (!isUnexplained(error)) throw error;
        const answer = await this.#s3
          .send(doing, async (client, sent) => {
            const got = await client.send(new GetObjectCommand({ ...input, Range: 'bytes=0-0' }), sent);
            await got.Body?.transformToByteArray();
            return got;
          })
          .catch((reason: unknown) => {
            // An object of no bytes has no first one.
            if (statusOf(reason) === 416) return undefined;
            throw reason;
          });
        if (answer === undefined) return (await this.get(key))?.info;
        return objectInfo(key, answer, Number(/\/(\d+)$/.exec(answer.ContentRange ?? '')?.[1] ?? answer.ContentLength ?? 0));
      }
    });
  }

  async get(key: string): Promise<{ bytes: Buffer; info: ObjectInfo } | undefined> {
    return await this.#s3.orUndefined(async () => {
      const [answer, bytes] = await this.#s3.send(`get ${key}`, async (client, sent) => {
        const got = await client.send(new GetObjectCommand({ Bucket: this.#s3.bucket, Key: key }), sent);
        const body = Buffer.from((await got.Body?.transformToByteArray()) ?? []);
        if (got.ContentLength !== undefined && body.length !== got.ContentLength) {
          throw new StepError('transient', `failed to get ${key}: ${body.length} of ${got.ContentLength} bytes came`);
        }
        return [got, body] as const;
      });
      return { bytes, info: objectInfo(key, answer, bytes.length) };
    });
  }

  async getRange(key: string, offset: number, into: Buffer, options: RangeOptions = {}): Promise<void> {
    const { signal } = this.#s3.options;
    const ended = options.signal ? AbortSignal.any([signal, options.signal]) : signal;
    await s3GetRange(key, offset, into, { ...this.#s3.options, signal: ended }, options);
  }

  get latencyMs(): number {
    return this.#s3.latencyMs;
  }

  get wantsCrc32(): boolean {
    return this.#s3.mode === 'crc32';
  }

  async put(key: string, bytes: Uint8Array, { condition, metadata, model = false, crc32 }: PutOptions = {}): Promise<ObjectInfo> {
    const input: Write = {
      Bucket: this.#s3.bucket,
      Key: key,
      Body: bytes,
      ContentLength: bytes.length,
      ...(metadata ? { Metadata: metadata } : {}),
      ...this.#s3.encryption(),
      ...(model ? this.#s3.modelHeaders() : { ContentType: 'application/json' }),
      ...(await this.#condition(key, condition)),
      ...(this.wantsCrc32 ? { ChecksumCRC32: await bodyCrc32Base64(bytes, crc32) } : {}),
    };
    const answer = await this.#s3.write(`put ${key}`, input);
    return {
      key,
      size: bytes.length,
      etag: unquoted(answer.ETag),
      lastModified: this.#s3.now(),
      versionId: answer.VersionId,
      metadata: metadata ?? {},
      checksum: checksumOf(answer),
    };
  }

  async *list(prefix: string): AsyncIterable<ObjectInfo> {
    let token: string | undefined;
    do {
      const input = { Bucket: this.#s3.bucket, Prefix: prefix, ContinuationToken: token };
      const page = await this.#s3.send(`list ${prefix}`, (client, sent) => client.send(new ListObjectsV2Command(input), sent));
      for (const { Key, Size, ETag, LastModified } of page.Contents ?? []) {
        if (Key !== undefined) yield { key: Key, size: Size ?? 0, etag: unquoted(ETag), lastModified: LastModified ?? new Date(0) };
      }
      token = page.IsTruncated ? page.NextContinuationToken : undefined;
    } while (token !== undefined);
  }

  async delete(keys: readonly string[], condition?: Condition): Promise<void> {
    // One by one: DeleteObjects needs a digest over its body, and stores differ in which one they take.
    await mapLimited(keys, deleteConnections, async (key) => {
      const input = { Bucket: this.#s3.bucket, Key: key, ...(await this.#condition(key, condition)) };
      await this.#s3.orUndefined(() => this.#s3.send(`delete ${key}`, (client, sent) => client.send(new DeleteObjectCommand(input), sent)));
    });
  }

  async copy(source: ObjectInfo, key: string, metadata: Record<string, string>): Promise<ObjectInfo> {
    const copied = await this.#copy(source, key, metadata);
    // Ceph 16 was seen to copy whatever the condition says: there only a look afterwards tells.
    if (this.#s3.options.settings.aws || (await this.head(source.key))?.etag === source.etag) return copied;
    await this.delete([key]);
    throw new PreconditionFailed(`${source.key} has changed`);
  }

  async #copy(source: ObjectInfo, key: string, metadata: Record<string, string>): Promise<ObjectInfo> {
    const from = { CopySource: copySource(this.#s3.bucket, source.key), CopySourceIfMatch: quoted(source.etag) };
    if (source.size > this.limits.maxCopy) return await this.#multiparts.copy(source, key, metadata, this.limits);
    const input = {
      Bucket: this.#s3.bucket,
      Key: key,
      ...from,
      MetadataDirective: 'REPLACE' as const,
      TaggingDirective: 'REPLACE' as const,
      Metadata: metadata,
      ...this.#s3.encryption(),
      ...this.#s3.modelHeaders(),
    };
    const answer = await this.#s3.send(`copy ${source.key} to ${key}`, (client, sent) => client.send(new CopyObjectCommand(input), sent));
    const { ETag, LastModified } = answer.CopyObjectResult ?? {};
    return {
      key,
      size: source.size,
      etag: unquoted(ETag),
      lastModified: LastModified ?? this.#s3.now(),
      versionId: answer.VersionId,
      metadata,
    };
  }

  beginMultipart(key: string, options: { size: number; partSize: number; metadata?: Record<string, string> }): Promise<MultipartUpload> {
    return this.#multiparts.begin(key, options);
  }

  uploadPart(upload: MultipartUpload, number: number, bytes: Uint8Array): Promise<UploadedPart> {
    return this.#multiparts.upload(upload, number, bytes);
  }

  listMultiparts(prefix: string): Promise<OpenUpload[] | undefined> {
    return this.#multiparts.list(prefix);
  }

  listParts(upload: MultipartUpload): Promise<StoredPart[] | undefined> {
    return this.#multiparts.listParts(upload);
  }

  partMatches(part: StoredPart, bytes: Uint8Array): boolean {
    return partHasBytes(part, bytes);
  }

  async completeMultipart(upload: MultipartUpload, parts: readonly UploadedPart[], size: number): Promise<ObjectInfo> {
    const info = await this.#multiparts.complete(upload, parts, size);
    // Ceph 16 was seen to answer without an ETag.
    return info.etag === '' ? ((await this.head(upload.key)) ?? info) : info;
  }

  abortMultipart(upload: MultipartUpload): Promise<void> {
    return this.#multiparts.abort(upload);
  }

  /** The headers of a condition. A store that knows none is looked at first instead: the best that can be done there. */
  async #condition(key: string, condition: Condition | undefined): Promise<{ IfNoneMatch?: string; IfMatch?: string }> {
    if (condition === undefined) return {};
    const { conditions } = this.#s3;
    if (conditions !== 'none') {
      if ('absent' in condition) return { IfNoneMatch: '*' };
      return { IfMatch: conditions === 'quoted' ? quoted(condition.etag) : condition.etag };
    }
    const found = await this.head(key);
    const holds = 'absent' in condition ? found === undefined : found?.etag === condition.etag;
    if (!holds) throw new PreconditionFailed(`${key} is not as expected`);
    return {};
  }
}
