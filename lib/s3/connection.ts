import { PutObjectCommand, type S3Client, type ServerSideEncryption, type StorageClass, UploadPartCommand } from '@aws-sdk/client-s3';
import { kindOf, StepError } from '../errors.ts';
import type { HttpAnswer } from '../http/answer.ts';
import type { Log } from '../log.ts';
import { regionOf, type S3Settings } from '../s3-settings.ts';
import { retry } from '../transfer/retry.ts';
import type { ChecksumMode } from './checksums.ts';
import { makeClient } from './client.ts';
import { isOfClock, s3Error } from './errors.ts';
import { type Done, quickWrite, type Write, writeUrl } from './quick-write.ts';

/** How a store knows If-Match and If-None-Match on puts: not at all (`none`), as HTTP has it, or with an ETag without its quotes. */
export type Conditions = 'none' | 'quoted' | 'bare';

export interface S3Options {
  settings: S3Settings;
  checksum: 'auto' | ChecksumMode;
  retries: number;
  /** ms */
  stallTimeout: number;
  signal: AbortSignal;
  log: Log;
}

/** What a call to the SDK is given besides its command. */
export interface Sent {
  abortSignal: AbortSignal;
}

/** One bucket, and how its calls are made: retried, classed, with the headers that the settings ask for. */
export class S3Connection {
  readonly options: S3Options;
  readonly bucket: string;
  readonly uri: string;
  /** What protects payloads; until a probe has told, what every S3 checks. */
  mode: ChecksumMode;
  /** How If-Match and If-None-Match go out with writes; `none` once a probe has told that they are ignored or refused. */
  conditions: Conditions = 'quoted';
  /** How long (ms) the quickest answer so far took. */
  latencyMs = Number.POSITIVE_INFINITY;
  #client: Promise<S3Client> | undefined;
  /** Where the SDK's requests go; undefined until the first. */
  #origin: string | undefined;
  /** How far the store's clock is ahead of ours, in ms. */
  #aheadMs = 0;

  constructor(options: S3Options) {
    const { settings, checksum } = options;
    this.options = options;
    this.bucket = settings.bucket;
    this.uri = `s3://${settings.bucket}`;
    this.mode = checksum === 'auto' ? (settings.aws ? 'crc32' : 'sha256') : checksum;
  }

  /** The same bucket, as far as it is known by now, for calls that another signal ends. */
  detached(signal: AbortSignal, retries: number): S3Connection {
    const connection = new S3Connection({ ...this.options, signal, retries, checksum: this.mode });
    connection.conditions = this.conditions;
    connection.latencyMs = this.latencyMs;
    return connection;
  }

  /** The store's clock. */
  now(): Date {
    return new Date(Date.now() + this.#aheadMs);
  }

  /** Retries what may pass; throws as the Store says. */
  async send<T>(doing: string, work: (client: S3Client, sent: Sent) => Promise<T>): Promise<T> {
    const { retries, signal, log } = this.options;
    return await retry({ retries, signal, log, what: `${doing} in ${this.uri}` }, async () => {
      const ask = async () => {
        const client = await this.#connect();
        const began = performance.now();
        const found = await work(client, { abortSignal: signal });
        this.latencyMs = Math.min(this.latencyMs, performance.now() - began);
        return found;
      };
      try {
        // The client signs by the store's clock from then on.
        return await ask().catch((error) => (isOfClock(error) ? ask() : Promise.reject(error)));
      } catch (error) {
        throw s3Error(error, `${doing} in ${this.uri}`, signal);
      }
    });
  }

  /** Puts an object or a part, as `send` does. Where its crc32 is verified that is all that protects it, and it takes the short way. */
  async write(doing: string, write: Write): Promise<Done> {
    return await this.send(doing, async (client, sent) => {
      if (write.ChecksumCRC32 === undefined) return await sendWrite(client, write, sent);
      const { settings, stallTimeout, signal } = this.options;
      const region = await regionOf(settings);
      const url = writeUrl(write, settings, region);
      // Only where the SDK goes itself: it knows access points, directory buckets, profiles and partitions that we do not.
      if (url.origin !== this.#origin) return await sendWrite(client, write, sent);
      const signingDate = new Date(Date.now() + client.config.systemClockOffset);
      const written = await quickWrite(write, url, { settings, region, signingDate, signal, stallTimeout });
      // What else came is the SDK's to read.
      if (written.done === undefined) return await sendWrite(client, write, { ...sent, answer: written.answer });
      this.#learn(written.headers.date);
      return written.done;
    });
  }

  /** Undefined where the object or upload is not there. */
  async orUndefined<T>(work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      if (kindOf(error) === 'not-found' && !isNoBucket(error)) return undefined;
      throw error;
    }
  }

  /** Of every object. */
  encryption(): { ServerSideEncryption?: ServerSideEncryption; SSEKMSKeyId?: string } {
    const { sse, kmsKeyId } = this.options.settings;
    return { ...(sse === undefined ? {} : { ServerSideEncryption: sse }), ...(kmsKeyId === undefined ? {} : { SSEKMSKeyId: kmsKeyId }) };
  }

  /** Of the model's own files. The type is said each time: what it is else differs between a put, an upload in parts and a copy. */
  modelHeaders(): { ContentType: string; StorageClass?: StorageClass; Tagging?: string } {
    const { storageClass, tagging } = this.options.settings;
    return {
      ContentType: 'application/octet-stream',
      ...(storageClass === undefined ? {} : { StorageClass: storageClass as StorageClass }),
      ...(tagging === undefined ? {} : { Tagging: tagging }),
    };
  }

  /** The SDK's client, made at the first call: credentials and region may have to be asked for. */
  async #connect(): Promise<S3Client> {
    const { settings, stallTimeout } = this.options;
    this.#client ??= makeClient({
      settings,
      stallTimeout,
      onDate: (date) => this.#learn(date),
      onOrigin: (origin) => {
        // Without the port where it is the scheme's own.
        this.#origin = new URL(origin).origin;
      },
    });
    return await this.#client;
  }

  #learn(date: string | undefined): void {
    const at = Date.parse(date ?? '');
    if (!Number.isNaN(at)) this.#aheadMs = at - Date.now();
  }
}

/** By the SDK; with an answer that came already, it only reads that. */
async function sendWrite(client: S3Client, { UploadId, PartNumber, ...put }: Write, sent: Sent & { answer?: HttpAnswer }): Promise<Done> {
  if (UploadId !== undefined) {
    const command = new UploadPartCommand({ ...put, UploadId, PartNumber });
    if (put.ChecksumCRC32 !== undefined) leaveUnsigned(command);
    const { ETag = '', ChecksumCRC32 } = await client.send(command, sent);
    return { ETag, VersionId: undefined, ChecksumCRC32 };
  }
  const command = new PutObjectCommand(put);
  if (put.ChecksumCRC32 !== undefined) leaveUnsigned(command);
  const { ETag = '', VersionId, ChecksumCRC32 } = await client.send(command, sent);
  return { ETag, VersionId, ChecksumCRC32 };
}

/** The payload goes unsigned, because a checksum header protects it: a second digest over every byte would be waste. */
export function leaveUnsigned(command: PutObjectCommand | UploadPartCommand): void {
  (command as PutObjectCommand).middlewareStack.add(
    (next) => (args) => {
      const { headers } = args.request as { headers: Record<string, string> };
      headers['x-amz-content-sha256'] = 'UNSIGNED-PAYLOAD';
      return next(args);
    },
    { step: 'build', name: 'leaveUnsigned' },
  );
}

/** A missing bucket is not a missing object; HEAD has no body that would tell them apart, and a later call will. */
function isNoBucket(error: unknown): boolean {
  return error instanceof StepError && error.cause instanceof Error && error.cause.name === 'NoSuchBucket';
}
