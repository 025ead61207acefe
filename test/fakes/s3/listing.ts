import { owner } from './buckets.ts';
import type { Call } from './call.ts';
import { S3Error } from './errors.ts';
import { type Bucket, compareKeys, type StoredObject } from './state.ts';
import { element, elements } from './xml.ts';

/** What a page of a listing holds, in order. */
type Entry = { key: string } | { prefix: string };

interface Page {
  entries: Entry[];
  /** The last entry when more follow. */
  next: Entry | undefined;
}

interface PageWishes {
  prefix: string;
  delimiter: string;
  /** Only what comes behind it, keys and common prefixes alike. */
  after: string;
  most: number;
}

/** ListObjectsV2: pages by an opaque token of the last entry. */
export function listObjectsV2(call: Call): void {
  const { bucket, query } = call;
  const token = query.get('continuation-token');
  const startAfter = query.get('start-after');
  const wishes = readWishes(call, token === undefined ? (startAfter ?? '') : readToken(token));
  const page = listPage(liveKeys(bucket), wishes);
  const name = encoder(call);
  call.sendXml(
    element('ListBucketResult', [
      ...elements({
        Name: bucket.name,
        Prefix: name(wishes.prefix),
        Delimiter: wishes.delimiter ? name(wishes.delimiter) : undefined,
        MaxKeys: wishes.most,
        EncodingType: query.get('encoding-type'),
        KeyCount: page.entries.length,
        IsTruncated: page.next !== undefined,
        ContinuationToken: token,
        NextContinuationToken: page.next && writeToken(page.next),
        StartAfter: startAfter === undefined ? undefined : name(startAfter),
      }),
      ...contents(call, page, query.get('fetch-owner') === 'true'),
    ]),
  );
}

/** The first version of the listing, which older clients use. */
export function listObjects(call: Call): void {
  const { bucket, query } = call;
  const marker = query.get('marker') ?? '';
  const delimiter = query.get('delimiter') ?? '';
  const wishes = readWishes(call, marker);
  const page = listPage(liveKeys(bucket), wishes);
  const name = encoder(call);
  call.sendXml(
    element('ListBucketResult', [
      ...elements({
        Name: bucket.name,
        Prefix: name(wishes.prefix),
        Marker: name(marker),
        Delimiter: delimiter ? name(delimiter) : undefined,
        MaxKeys: wishes.most,
        EncodingType: query.get('encoding-type'),
        IsTruncated: page.next !== undefined,
        NextMarker: delimiter && page.next ? name(nameOf(page.next)) : undefined,
      }),
      ...contents(call, page, true),
    ]),
  );
}

/** Every version and delete marker under a prefix, newest first within a key. Knows no delimiter. */
export function listObjectVersions(call: Call): void {
  const { bucket, query } = call;
  const prefix = query.get('prefix') ?? '';
  const most = Math.min(call.number('max-keys') ?? call.settings.pageSize, call.settings.pageSize);
  const keyMarker = query.get('key-marker') ?? '';
  const idMarker = query.get('version-id-marker');
  const all: { object: StoredObject; latest: boolean }[] = [];
  for (const key of bucket.sortedKeys()) {
    const order = compareKeys(key, keyMarker);
    if (!key.startsWith(prefix) || order < 0 || (order === 0 && !idMarker)) continue;
    let versions = (bucket.versions.get(key) ?? []).map((object, index) => ({ object, latest: index === 0 }));
    if (order === 0) versions = versions.slice(versions.findIndex(({ object }) => object.versionId === idMarker) + 1);
    all.push(...versions);
  }
  const page = all.slice(0, most);
  const last = all.length > most ? page.at(-1)?.object : undefined;
  const name = encoder(call);
  call.sendXml(
    element('ListVersionsResult', [
      ...elements({
        Name: bucket.name,
        Prefix: name(prefix),
        KeyMarker: name(keyMarker),
        VersionIdMarker: idMarker ?? '',
        NextKeyMarker: last && name(last.key),
        NextVersionIdMarker: last?.versionId,
        MaxKeys: most,
        EncodingType: query.get('encoding-type'),
        IsTruncated: last !== undefined,
      }),
      ...page.map(({ object, latest }) => {
        const common = {
          Key: name(object.key),
          VersionId: object.versionId,
          IsLatest: latest,
          LastModified: object.lastModified.toISOString(),
        };
        if (object.deleteMarker) return element('DeleteMarker', [...elements(common), owner]);
        return element('Version', [
          ...elements({ ...common, ETag: object.etag, Size: object.size, StorageClass: object.storageClass }),
          owner,
        ]);
      }),
    ]),
  );
}

/** Writes names as the listing was asked to: percent-encoded for encoding-type=url, with spaces as `+`. */
export function encoder(call: Call): (name: string) => string {
  const type = call.query.get('encoding-type');
  if (type !== undefined && type !== 'url') {
    throw new S3Error('InvalidArgument', {
      message: 'Invalid Encoding Method specified in Request',
      ArgumentName: 'encoding-type',
      ArgumentValue: type,
    });
  }
  if (type === undefined) return (name) => name;
  return (name) =>
    encodeURIComponent(name)
      .replace(/[!'()~]/g, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`)
      .replaceAll('%2F', '/')
      .replaceAll('%20', '+');
}

/** One page of sorted keys; keys that share what stands before the delimiter count as one entry. */
export function listPage(sorted: Iterable<string>, { prefix, delimiter, after, most }: PageWishes): Page {
  const entries: Entry[] = [];
  let common: string | undefined;
  if (most === 0) return { entries, next: undefined };
  for (const key of sorted) {
    if (!key.startsWith(prefix) || (common !== undefined && key.startsWith(common))) continue;
    const cut = delimiter ? key.indexOf(delimiter, prefix.length) : -1;
    common = cut < 0 ? undefined : key.slice(0, cut + delimiter.length);
    if (after !== '' && compareKeys(common ?? key, after) <= 0) continue;
    if (entries.length === most) return { entries, next: entries.at(-1) };
    entries.push(common === undefined ? { key } : { prefix: common });
  }
  return { entries, next: undefined };
}

function nameOf(entry: Entry): string {
  return 'key' in entry ? entry.key : entry.prefix;
}

function readWishes(call: Call, after: string): PageWishes {
  return {
    prefix: call.query.get('prefix') ?? '',
    delimiter: call.query.get('delimiter') ?? '',
    after,
    most: Math.min(call.number('max-keys') ?? call.settings.pageSize, call.settings.pageSize),
  };
}

function* liveKeys(bucket: Bucket): Iterable<string> {
  for (const key of bucket.sortedKeys()) {
    const object = bucket.latest(key);
    if (object && Date.now() + bucket.aheadMs - object.lastModified.getTime() >= bucket.listsLateMs) yield key;
  }
}

function contents(call: Call, page: Page, withOwner: boolean): string[] {
  const name = encoder(call);
  return page.entries.map((entry) => {
    if ('prefix' in entry) return element('CommonPrefixes', [element('Prefix', name(entry.prefix))]);
    const object = call.bucket.latest(entry.key);
    if (!object) return '';
    return element('Contents', [
      ...elements({ Key: name(object.key), LastModified: object.lastModified.toISOString(), ETag: object.etag }),
      ...Object.keys(object.checksums).map((algorithm) => element('ChecksumAlgorithm', algorithm.toUpperCase())),
      ...elements({ ChecksumType: object.checksumType, Size: object.size }),
      ...(withOwner ? [owner] : []),
      element('StorageClass', object.storageClass),
    ]);
  });
}

function writeToken(entry: Entry): string {
  return Buffer.from(JSON.stringify([nameOf(entry)])).toString('base64');
}

function readToken(token: string): string {
  try {
    const [name] = JSON.parse(Buffer.from(token, 'base64').toString()) as string[];
    if (typeof name === 'string') return name;
  } catch {
    // What is not ours is refused like what is nobody's.
  }
  throw new S3Error('InvalidArgument', { message: 'The continuation token provided is incorrect', ArgumentName: 'continuation-token' });
}
