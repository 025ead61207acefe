import { createHash } from 'node:crypto';
import { keepSecret } from './leaks.ts';
import type { World } from './s3/call.ts';
import { ContentStore, memoryContent } from './s3/content.ts';
import { type FakeS3Options, testCredentials } from './s3/options.ts';
import { etagOf } from './s3/properties.ts';
import { answer } from './s3/routing.ts';
import { Bucket, type Properties, StoredObject, type Upload } from './s3/state.ts';
import { FakeServer } from './server.ts';

export { s3Answer } from './s3/errors.ts';
export { type FakeS3Options, testCredentials, type Verb } from './s3/options.ts';
export type { Bucket, StoredObject, Upload } from './s3/state.ts';

const MiB = 1024 * 1024;

/**
 * An S3 server in this process that answers as AWS does and goes wrong on request (`fail`, see FakeServer; `s3Answer` makes S3's own errors).
 * Path style and virtual host style, Signature V4, objects in memory unless options say otherwise.
 */
export class FakeS3 extends FakeServer {
  /** Every bucket by name. */
  readonly buckets: Map<string, Bucket>;
  /** A key pair that the server accepts. */
  readonly credentials: { accessKeyId: string; secretAccessKey: string };
  readonly #store: ContentStore;
  readonly #options: FakeS3Options;

  constructor(options: FakeS3Options = {}) {
    const credentials = options.credentials ?? { [testCredentials.accessKeyId]: testCredentials.secretAccessKey };
    const store = new ContentStore({ dir: options.dir, discard: options.discard });
    const buckets = new Map<string, Bucket>();
    const world: World = {
      buckets,
      store,
      settings: {
        conditionalWrites: options.conditionalWrites ?? 'yes',
        checksums: options.checksums ?? 'verify',
        completeAgain: options.completeAgain ?? true,
        uploadsByKey: options.uploadsByKey ?? false,
        minPartSize: options.minPartSize ?? 5 * MiB,
        maxPutSize: options.maxPutSize ?? 5 * 1024 * MiB,
        pageSize: options.pageSize ?? 1000,
        fast: options.fast ?? false,
        notImplemented: options.notImplemented ?? [],
        pretends: options.pretends ?? [],
        abortRules: options.abortRules ?? 'yes',
        deny: options.deny ?? (() => false),
        region: options.region,
      },
    };
    let answered = 0;
    super(async (request, response) => {
      answered += 1;
      await answer(request, response, world, {
        credentials,
        anonymous: options.anonymous ?? false,
        region: options.region,
        maxClockSkewMs: options.maxClockSkewMs,
        clockAheadMs: options.clockAheadMs,
        domain: options.domain ?? 'localhost',
        requestId: answered.toString(16).toUpperCase().padStart(16, '0'),
      });
    }, 's3');
    for (const secret of Object.values(credentials)) keepSecret(secret, 's3');
    const [accessKeyId = '', secretAccessKey = ''] = Object.entries(credentials)[0] ?? [];
    this.credentials = { accessKeyId, secretAccessKey };
    this.buckets = buckets;
    this.#options = options;
    this.#store = store;
  }

  /** Makes a bucket without a request. */
  createBucket(name: string, { versioning = false } = {}): Bucket {
    const bucket = new Bucket(name, versioning ? 'Enabled' : undefined);
    bucket.aheadMs = this.#options.clockAheadMs ?? 0;
    bucket.listsLateMs = this.#options.listsLateMs ?? 0;
    this.buckets.set(name, bucket);
    return bucket;
  }

  /** The current object of that key; undefined when there is none. */
  object(bucket: string, key: string): StoredObject | undefined {
    return this.buckets.get(bucket)?.latest(key);
  }

  /** The keys of a bucket that begin so, in S3's order. */
  keys(bucket: string, prefix = ''): string[] {
    const found = this.buckets.get(bucket);
    return found ? found.sortedKeys().filter((key) => key.startsWith(prefix) && found.latest(key)) : [];
  }

  /** The multipart uploads of a bucket that are still open. */
  uploads(bucket: string): Upload[] {
    return [...(this.buckets.get(bucket)?.uploads.values() ?? [])];
  }

  /** Puts an object there without a request; an older one is replaced. */
  put(bucket: string, key: string, body: string | Uint8Array, properties: Partial<Properties> = {}): StoredObject {
    const bytes = Buffer.from(body);
    const whole: Properties = {
      headers: { 'content-type': 'binary/octet-stream' },
      metadata: {},
      tags: {},
      storageClass: 'STANDARD',
      encryption: { algorithm: 'AES256' },
      ...properties,
    };
    const object = new StoredObject(key, memoryContent([bytes]), etagOf(createHash('md5').update(bytes).digest(), whole.encryption), whole);
    const found = this.buckets.get(bucket);
    if (!found) throw new Error(`no bucket ${bucket}`);
    found.add(object);
    return object;
  }

  /** Closes the server and every open connection, and removes what lies on the disk. */
  override async close(): Promise<void> {
    await super.close();
    await this.#store.clear();
  }
}
