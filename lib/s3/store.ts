import {
  AbortMultipartUploadCommand,
  type CompletedPart,
  CompleteMultipartUploadCommand,
  CopyObjectCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  type GetObjectCommandOutput,
  HeadObjectCommand,
  type HeadObjectCommandOutput,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  ListPartsCommand,
  PutObjectCommand,
  type PutObjectCommandInput,
  type S3Client,
  type ServerSideEncryption,
  type StorageClass,
  UploadPartCommand,
  UploadPartCopyCommand,
} from '@aws-sdk/client-s3';
import { kindOf, StepError } from '../errors.ts';
import type { Log } from '../log.ts';
import type { S3Settings } from '../s3-settings.ts';
import type {
  Condition,
  MultipartUpload,
  ObjectInfo,
  OpenUpload,
  PutOptions,
  Store,
  StoredPart,
  StoreLimits,
  UploadedPart,
} from '../store.ts';
import { mapLimited } from '../transfer/pool.ts';
import { retry } from '../transfer/retry.ts';
import { type ChecksumMode, crc32Base64, partHasBytes } from './checksums.ts';
import { makeClient } from './client.ts';
import { s3Error } from './errors.ts';
import { type Prober, probeStore } from './probe.ts';

export interface S3StoreOptions {
  settings: S3Settings;
  checksum: 'auto' | ChecksumMode;
  retries: number;
  /** ms */
  stallTimeout: number;
  signal: AbortSignal;
  log: Log;
}

/** S3's limits (user guide, "Amazon S3 multipart upload limits"). */
const limits: StoreLimits = {
  maxPut: 5 * 1024 ** 3,
  maxCopy: 5 * 1024 ** 3,
  minPart: 5 * 1024 ** 2,
  maxPart: 5 * 1024 ** 3,
  maxParts: 10_000,
};
const copyPartBytes = 1024 ** 3;
const copyConnections = 8;
/** Within the 30 s that Kubernetes leaves between SIGTERM and SIGKILL. */
const cleanUpMs = 20_000;
const deleteConnections = 8;

/** What a call to the SDK is given besides its command. */
interface Sent {
  abortSignal: AbortSignal;
}

/** The Store on an S3 bucket. */
export class S3Store implements Store, Prober {
  readonly uri: string;
  readonly limits = limits;
  readonly location: { endpoint?: string | undefined; region?: string | undefined };
  readonly #options: S3StoreOptions;
  readonly #bucket: string;
  #client: Promise<S3Client> | undefined;
  #mode: ChecksumMode;
  /** How far the store's clock is ahead of ours, in ms. */
  #aheadMs = 0;

  constructor(options: S3StoreOptions) {
    const { settings, checksum } = options;
    this.#options = options;
    this.#bucket = settings.bucket;
    this.uri = `s3://${settings.bucket}`;
    this.location = { endpoint: settings.endpoint, region: settings.region };
    // Until the probe has told: what every S3 checks.
    this.#mode = checksum === 'auto' ? (settings.aws ? 'crc32' : 'sha256') : checksum;
  }

  detached(): Store {
    return new S3Store({ ...this.#options, checksum: this.#mode, retries: 3, signal: AbortSignal.timeout(cleanUpMs) });
  }

  async probe(probeKey: string): Promise<{ conditionalWrites: boolean }> {
    const { settings, checksum, log } = this.#options;
    // AWS verifies and honours all of it (S3 user guide, "Checking object integrity", "Conditional requests").
    if (settings.aws) return { conditionalWrites: true };
    const found = await probeStore(this, probeKey);
    if (checksum === 'auto') this.#mode = found.verifiesCrc32 ? 'crc32' : 'sha256';
    log.debug({ ...found, mode: this.#mode }, 'store probed');
    return { conditionalWrites: found.conditionalWrites };
  }

  now(): Date {
    return new Date(Date.now() + this.#aheadMs);
  }

  async head(key: string): Promise<ObjectInfo | undefined> {
    const input = { Bucket: this.#bucket, Key: key, ChecksumMode: 'ENABLED' as const };
    return await this.#orUndefined(async () => {
      const answer = await this.#send(`look at ${key}`, (client, sent) => client.send(new HeadObjectCommand(input), sent));
      return objectInfo(key, answer);
    });
  }

  async get(key: string): Promise<{ bytes: Buffer; info: ObjectInfo } | undefined> {
    return await this.#orUndefined(async () => {
      const [answer, bytes] = await this.#send(`get ${key}`, async (client, sent) => {
        const got = await client.send(new GetObjectCommand({ Bucket: this.#bucket, Key: key }), sent);
        const body = Buffer.from((await got.Body?.transformToByteArray()) ?? []);
        if (got.ContentLength !== undefined && body.length !== got.ContentLength) {
          throw new StepError('transient', `failed to get ${key}: ${body.length} of ${got.ContentLength} bytes came`);
        }
        return [got, body] as const;
      });
      return { bytes, info: objectInfo(key, answer, bytes.length) };
    });
  }

  async getRange(key: string, offset: number, into: Buffer, etag?: string): Promise<void> {
    const Range = `bytes=${offset}-${offset + into.length - 1}`;
    await this.#send(`get ${key}`, async (client, sent) => {
      const input = { Bucket: this.#bucket, Key: key, Range, ...(etag === undefined ? {} : { IfMatch: quoted(etag) }) };
      const answer = await client.send(new GetObjectCommand(input), sent);
      if (answer.$metadata.httpStatusCode !== 206 && answer.ContentLength !== into.length) {
        throw new StepError('integrity', `failed to get ${key}: the store ignores ranges`);
      }
      let at = 0;
      for await (const chunk of (answer.Body ?? []) as AsyncIterable<Buffer>) {
        if (at + chunk.length > into.length) throw new StepError('integrity', `failed to get ${key}: more bytes came than asked for`);
        chunk.copy(into, at);
        at += chunk.length;
      }
      if (at !== into.length) throw new StepError('transient', `failed to get ${key}: ${at} of ${into.length} bytes came`);
    });
  }

  async put(key: string, bytes: Uint8Array, { condition, metadata, model = false }: PutOptions = {}): Promise<ObjectInfo> {
    const input: PutObjectCommandInput = {
      Bucket: this.#bucket,
      Key: key,
      Body: bytes,
      ContentLength: bytes.length,
      ...(metadata ? { Metadata: metadata } : {}),
      ...this.#encryption(),
      ...(model ? this.#modelHeaders() : { ContentType: 'application/json' }),
      ...conditionHeaders(condition),
      ...(this.#mode === 'crc32' ? { ChecksumCRC32: crc32Base64(bytes) } : {}),
    };
    const answer = await this.#send(`put ${key}`, (client, sent) => client.send(this.#protect(new PutObjectCommand(input)), sent));
    return {
      key,
      size: bytes.length,
      etag: unquoted(answer.ETag),
      lastModified: this.now(),
      versionId: answer.VersionId,
      metadata: metadata ?? {},
      checksum: checksumOf(answer),
    };
  }

  async *list(prefix: string): AsyncIterable<ObjectInfo> {
    let token: string | undefined;
    do {
      const input = { Bucket: this.#bucket, Prefix: prefix, ContinuationToken: token };
      const page = await this.#send(`list ${prefix}`, (client, sent) => client.send(new ListObjectsV2Command(input), sent));
      for (const { Key, Size, ETag, LastModified } of page.Contents ?? []) {
        if (Key !== undefined) yield { key: Key, size: Size ?? 0, etag: unquoted(ETag), lastModified: LastModified ?? new Date(0) };
      }
      token = page.IsTruncated ? page.NextContinuationToken : undefined;
    } while (token !== undefined);
  }

  async delete(keys: readonly string[], condition?: Condition): Promise<void> {
    const match = condition && 'etag' in condition ? { IfMatch: quoted(condition.etag) } : {};
    // One by one: DeleteObjects needs a digest over its body, and stores differ in which one they take.
    await mapLimited(keys, deleteConnections, async (key) => {
      const input = { Bucket: this.#bucket, Key: key, ...match };
      await this.#orUndefined(() => this.#send(`delete ${key}`, (client, sent) => client.send(new DeleteObjectCommand(input), sent)));
    });
  }

  async copy(source: ObjectInfo, key: string, metadata: Record<string, string>): Promise<ObjectInfo> {
    const from = { CopySource: copySource(this.#bucket, source.key), CopySourceIfMatch: quoted(source.etag) };
    if (source.size > limits.maxCopy) return await this.#copyInParts(source, key, metadata, from);
    const input = {
      Bucket: this.#bucket,
      Key: key,
      ...from,
      MetadataDirective: 'REPLACE' as const,
      TaggingDirective: 'REPLACE' as const,
      Metadata: metadata,
      ...this.#encryption(),
      ...this.#modelHeaders(),
    };
    const answer = await this.#send(`copy ${source.key} to ${key}`, (client, sent) => client.send(new CopyObjectCommand(input), sent));
    const { ETag, LastModified } = answer.CopyObjectResult ?? {};
    return {
      key,
      size: source.size,
      etag: unquoted(ETag),
      lastModified: LastModified ?? this.now(),
      versionId: answer.VersionId,
      metadata,
    };
  }

  async beginMultipart(
    key: string,
    { metadata }: { size: number; partSize: number; metadata?: Record<string, string> },
  ): Promise<MultipartUpload> {
    const input = {
      Bucket: this.#bucket,
      Key: key,
      ...(metadata ? { Metadata: metadata } : {}),
      ...this.#encryption(),
      ...this.#modelHeaders(),
      ...(this.#mode === 'crc32' ? { ChecksumAlgorithm: 'CRC32' as const } : {}),
    };
    const answer = await this.#send(`begin upload of ${key}`, (client, sent) => client.send(new CreateMultipartUploadCommand(input), sent));
    if (answer.UploadId === undefined) throw new StepError('transient', `failed to begin upload of ${key}: the store gave no upload id`);
    return { key, uploadId: answer.UploadId };
  }

  async uploadPart({ key, uploadId }: MultipartUpload, number: number, bytes: Uint8Array): Promise<UploadedPart> {
    const input = {
      Bucket: this.#bucket,
      Key: key,
      UploadId: uploadId,
      PartNumber: number,
      Body: bytes,
      ContentLength: bytes.length,
      ...(this.#mode === 'crc32' ? { ChecksumCRC32: crc32Base64(bytes) } : {}),
    };
    const answer = await this.#send(`send part ${number} of ${key}`, (client, sent) =>
      client.send(this.#protect(new UploadPartCommand(input)), sent),
    );
    return { number, etag: unquoted(answer.ETag), checksum: this.#mode === 'crc32' ? `crc32:${input.ChecksumCRC32}` : undefined };
  }

  async listMultiparts(prefix: string): Promise<OpenUpload[] | undefined> {
    const found: OpenUpload[] = [];
    let marker: { KeyMarker?: string | undefined; UploadIdMarker?: string | undefined } = {};
    try {
      for (;;) {
        const input = { Bucket: this.#bucket, Prefix: prefix, ...marker };
        const page = await this.#send(`list uploads of ${prefix}`, (client, sent) =>
          client.send(new ListMultipartUploadsCommand(input), sent),
        );
        for (const { Key, UploadId, Initiated } of page.Uploads ?? []) {
          if (Key && UploadId) found.push({ key: Key, uploadId: UploadId, initiated: Initiated ?? new Date(0) });
        }
        if (!page.IsTruncated) return found;
        marker = { KeyMarker: page.NextKeyMarker, UploadIdMarker: page.NextUploadIdMarker };
      }
    } catch (error) {
      if (kindOf(error) === 'denied' || kindOf(error) === 'usage') return undefined;
      throw error;
    }
  }

  async listParts({ key, uploadId }: MultipartUpload): Promise<StoredPart[] | undefined> {
    return await this.#orUndefined(async () => {
      const parts: StoredPart[] = [];
      let marker: string | undefined;
      do {
        const input = { Bucket: this.#bucket, Key: key, UploadId: uploadId, PartNumberMarker: marker };
        const page = await this.#send(`list parts of ${key}`, (client, sent) => client.send(new ListPartsCommand(input), sent));
        for (const part of page.Parts ?? []) {
          parts.push({ number: part.PartNumber ?? 0, size: part.Size ?? 0, etag: unquoted(part.ETag), checksum: checksumOf(part) });
        }
        marker = page.IsTruncated ? page.NextPartNumberMarker : undefined;
      } while (marker !== undefined);
      return parts;
    });
  }

  partMatches(part: StoredPart, bytes: Uint8Array): boolean {
    return partHasBytes(part, bytes);
  }

  async completeMultipart({ key, uploadId }: MultipartUpload, parts: readonly UploadedPart[], size: number): Promise<ObjectInfo> {
    const Parts: CompletedPart[] = parts.map(({ number, etag, checksum }) => ({
      PartNumber: number,
      ETag: quoted(etag),
      ...(checksum?.startsWith('crc32:') ? { ChecksumCRC32: checksum.slice('crc32:'.length) } : {}),
    }));
    const input = { Bucket: this.#bucket, Key: key, UploadId: uploadId, MultipartUpload: { Parts } };
    const answer = await this.#send(`complete ${key}`, (client, sent) => client.send(new CompleteMultipartUploadCommand(input), sent));
    return { key, size, etag: unquoted(answer.ETag), lastModified: this.now(), versionId: answer.VersionId, checksum: checksumOf(answer) };
  }

  async abortMultipart({ key, uploadId }: MultipartUpload): Promise<void> {
    const input = { Bucket: this.#bucket, Key: key, UploadId: uploadId };
    await this.#orUndefined(() =>
      this.#send(`abort upload of ${key}`, (client, sent) => client.send(new AbortMultipartUploadCommand(input), sent)),
    );
  }

  /** One put for the probe: with a crc32 header that may be wrong on purpose; tells what came of it instead of throwing. */
  async tryPut(
    key: string,
    bytes: Uint8Array,
    options: { crc32?: string; absent?: boolean },
  ): Promise<'done' | 'precondition' | 'refused'> {
    const input = {
      Bucket: this.#bucket,
      Key: key,
      Body: bytes,
      ContentLength: bytes.length,
      ...this.#encryption(),
      ...(options.crc32 === undefined ? {} : { ChecksumCRC32: options.crc32 }),
      ...(options.absent ? { IfNoneMatch: '*' } : {}),
    };
    return await this.#send(`probe ${key}`, async (client, sent) => {
      const command = new PutObjectCommand(input);
      if (options.crc32 !== undefined) leaveUnsigned(command);
      try {
        await client.send(command, sent);
        return 'done';
      } catch (error) {
        const status = (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode;
        if (status === 412) return 'precondition';
        if (status === 400 || status === 501) return 'refused';
        throw error;
      }
    });
  }

  async #copyInParts(source: ObjectInfo, key: string, metadata: Record<string, string>, from: object): Promise<ObjectInfo> {
    const upload = await this.beginMultipart(key, { size: source.size, partSize: copyPartBytes, metadata });
    const numbers = Array.from({ length: Math.ceil(source.size / copyPartBytes) }, (_, index) => index + 1);
    try {
      const parts = await mapLimited(numbers, copyConnections, async (number): Promise<UploadedPart> => {
        const start = (number - 1) * copyPartBytes;
        const end = Math.min(source.size, start + copyPartBytes) - 1;
        const input = {
          Bucket: this.#bucket,
          Key: key,
          UploadId: upload.uploadId,
          PartNumber: number,
          CopySource: copySource(this.#bucket, source.key),
          CopySourceRange: `bytes=${start}-${end}`,
          ...from,
        };
        const answer = await this.#send(`copy part ${number} of ${key}`, (client, sent) =>
          client.send(new UploadPartCopyCommand(input), sent),
        );
        return { number, etag: unquoted(answer.CopyPartResult?.ETag), checksum: checksumOf(answer.CopyPartResult ?? {}) };
      });
      return { ...(await this.completeMultipart(upload, parts, source.size)), metadata };
    } catch (error) {
      await this.abortMultipart(upload).catch(() => {});
      throw error;
    }
  }

  /** The SDK's client, made at the first call: credentials and region may have to be asked for. */
  async #connect(): Promise<S3Client> {
    const { settings, stallTimeout } = this.#options;
    this.#client ??= makeClient({
      settings,
      stallTimeout,
      onDate: (date) => {
        this.#aheadMs = date.getTime() - Date.now();
      },
    });
    return await this.#client;
  }

  async #send<T>(doing: string, work: (client: S3Client, sent: Sent) => Promise<T>): Promise<T> {
    const { retries, signal, log } = this.#options;
    return await retry({ retries, signal, log, what: `${doing} in ${this.uri}` }, async () => {
      try {
        return await work(await this.#connect(), { abortSignal: signal });
      } catch (error) {
        throw s3Error(error, `${doing} in ${this.uri}`, signal);
      }
    });
  }

  /** The checksum header is in the input; where it is verified, it is all that a payload needs. */
  #protect<Command extends PutObjectCommand | UploadPartCommand>(command: Command): Command {
    if (this.#mode === 'crc32') leaveUnsigned(command);
    return command;
  }

  async #orUndefined<T>(work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      if (kindOf(error) === 'not-found' && !isNoBucket(error)) return undefined;
      throw error;
    }
  }

  #encryption(): { ServerSideEncryption?: ServerSideEncryption; SSEKMSKeyId?: string } {
    const { sse, kmsKeyId } = this.#options.settings;
    return { ...(sse === undefined ? {} : { ServerSideEncryption: sse }), ...(kmsKeyId === undefined ? {} : { SSEKMSKeyId: kmsKeyId }) };
  }

  #modelHeaders(): { StorageClass?: StorageClass; Tagging?: string } {
    const { storageClass, tagging } = this.#options.settings;
    return {
      ...(storageClass === undefined ? {} : { StorageClass: storageClass as StorageClass }),
      ...(tagging === undefined ? {} : { Tagging: tagging }),
    };
  }
}

/** The payload goes unsigned, because a checksum header protects it: a second digest over every byte would be waste. */
function leaveUnsigned(command: PutObjectCommand | UploadPartCommand): void {
  (command as PutObjectCommand).middlewareStack.add(
    (next) => (args) => {
      const { headers } = args.request as { headers: Record<string, string> };
      headers['x-amz-content-sha256'] = 'UNSIGNED-PAYLOAD';
      return next(args);
    },
    { step: 'build', name: 'leaveUnsigned' },
  );
}

function conditionHeaders(condition: Condition | undefined): { IfNoneMatch?: string; IfMatch?: string } {
  if (condition === undefined) return {};
  return 'absent' in condition ? { IfNoneMatch: '*' } : { IfMatch: quoted(condition.etag) };
}

function objectInfo(key: string, answer: HeadObjectCommandOutput | GetObjectCommandOutput, size = answer.ContentLength ?? 0): ObjectInfo {
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

function checksumOf(answer: { ChecksumCRC64NVME?: string | undefined; ChecksumCRC32?: string | undefined }): string | undefined {
  if (answer.ChecksumCRC32 !== undefined) return `crc32:${answer.ChecksumCRC32}`;
  return answer.ChecksumCRC64NVME === undefined ? undefined : `crc64nvme:${answer.ChecksumCRC64NVME}`;
}

function copySource(bucket: string, key: string): string {
  return `${bucket}/${key.split('/').map(encodeURIComponent).join('/')}`;
}

function unquoted(etag: string | undefined): string {
  return (etag ?? '').replace(/^"|"$/g, '');
}

function quoted(etag: string): string {
  return `"${etag}"`;
}

/** A missing bucket is not a missing object; HEAD has no body that would tell them apart, and a later call will. */
function isNoBucket(error: unknown): boolean {
  return error instanceof StepError && error.cause instanceof Error && error.cause.name === 'NoSuchBucket';
}
