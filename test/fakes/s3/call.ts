import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ContentStore } from './content.ts';
import { S3Error } from './errors.ts';
import type { FakeS3Options, Verb } from './options.ts';
import type { SigningContext } from './signature.ts';
import type { Bucket, StoredObject } from './state.ts';
import { type XmlNode, xmlDocument } from './xml.ts';

/** Options with every default filled in. */
export interface Settings
  extends Required<
    Pick<
      FakeS3Options,
      | 'conditionalWrites'
      | 'checksums'
      | 'completeAgain'
      | 'uploadsByKey'
      | 'minPartSize'
      | 'maxPutSize'
      | 'pageSize'
      | 'fast'
      | 'notImplemented'
      | 'pretends'
      | 'abortRules'
    >
  > {
  deny: NonNullable<FakeS3Options['deny']>;
  region: string | undefined;
}

/** What the server holds. */
export interface World {
  readonly settings: Settings;
  readonly buckets: Map<string, Bucket>;
  readonly store: ContentStore;
}

type Headers = Record<string, string | number | undefined>;

/** One request on its way through the server. */
export class Call {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly world: World;
  readonly verb: Verb;
  readonly bucketName: string;
  readonly key: string;
  readonly query: Map<string, string>;
  readonly signing: SigningContext | undefined;

  constructor(
    exchange: { request: IncomingMessage; response: ServerResponse },
    world: World,
    what: { verb: Verb; bucket: string; key: string; query: Map<string, string>; signing: SigningContext | undefined },
  ) {
    this.request = exchange.request;
    this.response = exchange.response;
    this.world = world;
    this.verb = what.verb;
    this.bucketName = what.bucket;
    this.key = what.key;
    this.query = what.query;
    this.signing = what.signing;
  }

  get settings(): Settings {
    return this.world.settings;
  }

  get bucket(): Bucket {
    return findBucket(this.world, this.bucketName);
  }

  /** A header; x-amz-* may stand in the query instead, where presigned URLs have them. */
  header(name: string): string | undefined {
    const value = this.request.headers[name];
    if (value !== undefined) return Array.isArray(value) ? value.join(',') : value;
    if (!name.startsWith('x-amz-')) return undefined;
    for (const [parameter, text] of this.query) if (parameter.toLowerCase() === name) return text;
    return undefined;
  }

  /** Every header whose name begins so, by the rest of its name. */
  headersBehind(prefix: string): [rest: string, value: string][] {
    const names = new Set([...Object.keys(this.request.headers), ...[...this.query.keys()].map((name) => name.toLowerCase())]);
    return [...names].filter((name) => name.startsWith(prefix)).map((name) => [name.slice(prefix.length), this.header(name) ?? '']);
  }

  /** A number of the query, between 0 and most; undefined when absent. */
  number(name: string, most = 2 ** 31 - 1): number | undefined {
    const text = this.query.get(name);
    if (text === undefined || text === '') return undefined;
    if (!/^\d+$/.test(text) || Number(text) > 2 ** 31 - 1) {
      throw new S3Error('InvalidArgument', {
        message: `Provided ${name} not an integer or within integer range`,
        ArgumentName: name,
        ArgumentValue: text,
      });
    }
    return Math.min(Number(text), most);
  }

  /** Answers without a body. */
  send(status: number, headers: Headers = {}): void {
    this.response.writeHead(status, status === 204 || status === 304 ? present(headers) : { 'content-length': 0, ...present(headers) });
    this.response.end();
  }

  /** Answers 200 with an XML document. */
  sendXml(root: string, headers: Headers = {}): void {
    const body = Buffer.from(xmlDocument(root));
    this.response.writeHead(200, { 'content-type': 'application/xml', 'content-length': body.length, ...present(headers) });
    this.response.end(body);
  }
}

/** The bucket, or 404 NoSuchBucket. */
export function findBucket(world: World, name: string): Bucket {
  const bucket = world.buckets.get(name);
  if (!bucket) throw new S3Error('NoSuchBucket', { BucketName: name });
  return bucket;
}

/** The version a request names, or the current one; else 404 as AWS words it. */
export function findObject(bucket: Bucket, key: string, versionId: string | undefined): StoredObject {
  if (versionId === undefined) {
    const object = bucket.latest(key);
    if (!object) throw new S3Error('NoSuchKey', { Key: key });
    return object;
  }
  const object = bucket.version(key, versionId);
  if (!object) throw new S3Error('NoSuchVersion', { Key: key, VersionId: versionId });
  if (object.deleteMarker) throw new S3Error('MethodNotAllowed', { Method: 'GET', ResourceType: 'DeleteMarker' });
  return object;
}

/** Refuses an XML body that is not the expected document. */
export function expectRoot(node: XmlNode | undefined, name: string): XmlNode {
  if (node?.name !== name) throw new S3Error('MalformedXML');
  return node;
}

function present(headers: Headers): Record<string, string | number> {
  return Object.fromEntries(Object.entries(headers).filter((entry): entry is [string, string | number] => entry[1] !== undefined));
}

/** Refuses a body without a digest, where S3 wants one: Content-MD5, or a checksum that this server knows. */
export function requireDigest(call: Call): void {
  if (call.header('content-md5') !== undefined) return;
  if (call.settings.checksums !== 'verify') throw new S3Error('MissingContentMD5');
  if (call.headersBehind('x-amz-checksum-').length > 0 || call.header('x-amz-trailer') !== undefined) return;
  throw new S3Error('InvalidRequest', { message: 'Missing required header for this request: Content-MD5 OR x-amz-checksum-*' });
}
