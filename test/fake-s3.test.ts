import { createHash } from 'node:crypto';
import { Agent } from 'node:http';
import { Readable } from 'node:stream';
import {
  CopyObjectCommand,
  CreateBucketCommand,
  DeleteBucketCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetBucketLocationCommand,
  GetBucketVersioningCommand,
  GetObjectCommand,
  GetObjectTaggingCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  ListBucketsCommand,
  ListObjectsCommand,
  ListObjectsV2Command,
  ListObjectVersionsCommand,
  PutBucketVersioningCommand,
  PutObjectCommand,
  PutObjectTaggingCommand,
  type S3Client,
} from '@aws-sdk/client-s3';
import { afterEach, describe, expect, test } from 'vitest';
import { FakeS3, type FakeS3Options, s3Answer } from './fakes/s3.ts';
import { clientOf, refusal } from './fakes/s3-client.ts';

const Bucket = 'models';
const servers: FakeS3[] = [];

async function start(options: FakeS3Options = {}): Promise<{ server: FakeS3; client: S3Client }> {
  const server = await new FakeS3(options).listen();
  servers.push(server);
  server.createBucket(Bucket);
  return { server, client: clientOf(server) };
}

async function read(client: S3Client, Key: string, more: object = {}): Promise<string> {
  const { Body } = await client.send(new GetObjectCommand({ Bucket, Key, ...more }));
  return (await Body?.transformToString()) ?? '';
}

afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});

describe.each(['WHEN_SUPPORTED', 'WHEN_REQUIRED'] as const)('objects, with checksums %s', (checksums) => {
  const settings = { requestChecksumCalculation: checksums, responseChecksumValidation: checksums };

  test('a body comes back with everything that was said of it', async () => {
    const { server } = await start();
    const client = clientOf(server, settings);
    const key = 'org/a model (v1)/ü+x&<>"%25~!*\'é🚢';
    const put = await client.send(
      new PutObjectCommand({
        Bucket,
        Key: key,
        Body: 'weights',
        ContentType: 'application/json',
        CacheControl: 'no-cache',
        Metadata: { sha256: 'abc' },
        StorageClass: 'STANDARD_IA',
        ServerSideEncryption: 'aws:kms',
        SSEKMSKeyId: 'key-1',
        Tagging: 'team=ml&stage=a%20b',
      }),
    );
    expect(put).toMatchObject({ ServerSideEncryption: 'aws:kms', SSEKMSKeyId: 'key-1' });
    expect(await client.send(new HeadObjectCommand({ Bucket, Key: key }))).toMatchObject({
      ETag: put.ETag,
      ContentLength: 7,
      ContentType: 'application/json',
      CacheControl: 'no-cache',
      Metadata: { sha256: 'abc' },
      StorageClass: 'STANDARD_IA',
      ServerSideEncryption: 'aws:kms',
      SSEKMSKeyId: 'key-1',
    });
    expect(await read(client, key)).toBe('weights');
    expect((await client.send(new GetObjectTaggingCommand({ Bucket, Key: key }))).TagSet).toEqual([
      { Key: 'team', Value: 'ml' },
      { Key: 'stage', Value: 'a b' },
    ]);
    await client.send(new PutObjectTaggingCommand({ Bucket, Key: key, Tagging: { TagSet: [{ Key: 'x', Value: '<&>' }] } }));
    expect(server.object(Bucket, key)?.tags).toEqual({ x: '<&>' });
    expect(await server.object(Bucket, key)?.text()).toBe('weights');
  });

  test('the ETag is the MD5, but nothing known where KMS encrypts', async () => {
    const { server } = await start();
    const client = clientOf(server, settings);
    const md5 = `"${createHash('md5').update('x').digest('hex')}"`;
    expect(await client.send(new PutObjectCommand({ Bucket, Key: 'a', Body: 'x' }))).toMatchObject({
      ETag: md5,
      ServerSideEncryption: 'AES256',
    });
    const kms = await client.send(new PutObjectCommand({ Bucket, Key: 'b', Body: 'x', ServerSideEncryption: 'aws:kms' }));
    expect(kms.ETag).toMatch(/^"[\da-f]{32}"$/);
    expect(kms.ETag).not.toBe(md5);
  });

  test('streams of a known length, empty bodies and several MiB arrive whole', async () => {
    const { server } = await start();
    const client = clientOf(server, settings);
    const bytes = Buffer.alloc(3 * 1024 * 1024 + 17, 'abcdefg');
    const chunks = [bytes.subarray(0, 1_000_001), bytes.subarray(1_000_001)];
    await client.send(new PutObjectCommand({ Bucket, Key: 'stream', Body: Readable.from(chunks), ContentLength: bytes.length }));
    await client.send(new PutObjectCommand({ Bucket, Key: 'bytes', Body: bytes }));
    await client.send(new PutObjectCommand({ Bucket, Key: 'empty', Body: '', ContentLength: 0 }));
    expect((await server.object(Bucket, 'stream')?.bytes())?.equals(bytes)).toBe(true);
    const answer = await client.send(new GetObjectCommand({ Bucket, Key: 'stream' }));
    expect(bytes.equals((await answer.Body?.transformToByteArray()) ?? new Uint8Array())).toBe(true);
    expect(await read(client, 'empty')).toBe('');
  });

  test('deletes one, many, and what is not there', async () => {
    const { server } = await start();
    const client = clientOf(server, settings);
    for (const key of ['a', 'b', 'c&d', 'kept']) server.put(Bucket, key, key);
    await client.send(new DeleteObjectCommand({ Bucket, Key: 'a' }));
    await client.send(new DeleteObjectCommand({ Bucket, Key: 'a' }));
    const { Deleted } = await client.send(
      new DeleteObjectsCommand({ Bucket, Delete: { Objects: [{ Key: 'b' }, { Key: 'c&d' }, { Key: 'never' }] } }),
    );
    expect(Deleted?.map(({ Key }) => Key)).toEqual(['b', 'c&d', 'never']);
    expect(server.keys(Bucket)).toEqual(['kept']);
  });
});

describe('buckets', () => {
  test('are made, found, and removed when empty', async () => {
    const { server, client } = await start({ region: 'us-east-1' });
    await client.send(new CreateBucketCommand({ Bucket: 'other' }));
    expect(await refusal(client.send(new CreateBucketCommand({ Bucket: 'other' })))).toBe('409 BucketAlreadyOwnedByYou');
    expect((await client.send(new ListBucketsCommand({}))).Buckets?.map(({ Name }) => Name)).toEqual(['models', 'other']);
    expect(await client.send(new HeadBucketCommand({ Bucket: 'other' }))).toMatchObject({ BucketRegion: 'us-east-1' });
    expect((await client.send(new GetBucketLocationCommand({ Bucket: 'other' }))).LocationConstraint).toBeFalsy();
    server.put('other', 'x', '');
    expect(await refusal(client.send(new DeleteBucketCommand({ Bucket: 'other' })))).toBe('409 BucketNotEmpty');
    await client.send(new DeleteObjectCommand({ Bucket: 'other', Key: 'x' }));
    await client.send(new DeleteBucketCommand({ Bucket: 'other' }));
    expect(await refusal(client.send(new HeadBucketCommand({ Bucket: 'other' })))).toBe('404 NotFound');
    expect(await refusal(client.send(new ListObjectsV2Command({ Bucket: 'other' })))).toBe('404 NoSuchBucket');
  });

  test('are read from the host too', async () => {
    const { server } = await start();
    const httpAgent = new Agent({
      lookup: (_name, { all }, done) => (all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4)),
    });
    const endpoint = server.origin.replace('127.0.0.1', 's3.example.org');
    const client = clientOf(server, { forcePathStyle: false, endpoint, requestHandler: { httpAgent } });
    await client.send(new PutObjectCommand({ Bucket, Key: 'a/b', Body: 'x' }));
    expect(server.requests.at(-1)).toMatchObject({
      url: '/a/b?x-id=PutObject',
      headers: { host: expect.stringMatching(/^models\.s3\.example/) },
    });
    expect(server.keys(Bucket)).toEqual(['a/b']);
    httpAgent.destroy();
  });

  test('keep versions where told', async () => {
    const { server, client } = await start();
    await client.send(new PutBucketVersioningCommand({ Bucket, VersioningConfiguration: { Status: 'Enabled' } }));
    expect((await client.send(new GetBucketVersioningCommand({ Bucket }))).Status).toBe('Enabled');
    const first = await client.send(new PutObjectCommand({ Bucket, Key: 'k', Body: 'one' }));
    const second = await client.send(new PutObjectCommand({ Bucket, Key: 'k', Body: 'two' }));
    const gone = await client.send(new DeleteObjectCommand({ Bucket, Key: 'k' }));
    expect(gone.DeleteMarker).toBe(true);
    expect(server.keys(Bucket)).toEqual([]);
    expect(await read(client, 'k', { VersionId: first.VersionId })).toBe('one');
    const listed = await client.send(new ListObjectVersionsCommand({ Bucket, Prefix: 'k' }));
    expect(listed.Versions?.map(({ VersionId, IsLatest }) => [VersionId, IsLatest])).toEqual([
      [second.VersionId, false],
      [first.VersionId, false],
    ]);
    expect(listed.DeleteMarkers?.map(({ VersionId, IsLatest }) => [VersionId, IsLatest])).toEqual([[gone.VersionId, true]]);
    await client.send(new DeleteObjectCommand({ Bucket, Key: 'k', VersionId: gone.VersionId }));
    expect(await read(client, 'k')).toBe('two');
    await client.send(new DeleteObjectCommand({ Bucket, Key: 'k', VersionId: second.VersionId }));
    expect(await read(client, 'k')).toBe('one');
  });
});

describe('reading', () => {
  test.each([
    ['bytes=2-4', 'cde', 'bytes 2-4/10'],
    ['bytes=7-', 'hij', 'bytes 7-9/10'],
    ['bytes=-2', 'ij', 'bytes 8-9/10'],
    ['bytes=-99', 'abcdefghij', 'bytes 0-9/10'],
    ['bytes=8-99', 'ij', 'bytes 8-9/10'],
    ['bytes=0-1,4-5', 'abcdefghij', undefined],
    ['bytes=5-2', 'abcdefghij', undefined],
  ])('range %s', async (Range, body, ContentRange) => {
    const { server, client } = await start();
    server.put(Bucket, 'k', 'abcdefghij');
    const answer = await client.send(new GetObjectCommand({ Bucket, Key: 'k', Range }));
    expect(await answer.Body?.transformToString()).toBe(body);
    expect(answer.ContentRange).toBe(ContentRange);
    expect(answer.$metadata.httpStatusCode).toBe(ContentRange ? 206 : 200);
    expect(await client.send(new HeadObjectCommand({ Bucket, Key: 'k', Range }))).toMatchObject({ ContentLength: body.length });
  });

  test('a range behind the end is refused', async () => {
    const { server, client } = await start();
    server.put(Bucket, 'k', 'abc');
    expect(await refusal(client.send(new GetObjectCommand({ Bucket, Key: 'k', Range: 'bytes=3-' })))).toBe('416 InvalidRange');
    expect(await refusal(client.send(new GetObjectCommand({ Bucket, Key: 'k', Range: 'bytes=-0' })))).toBe('416 InvalidRange');
  });

  test('holds to If-Match and If-None-Match', async () => {
    const { server, client } = await start();
    const { etag } = server.put(Bucket, 'k', 'abc');
    expect(await read(client, 'k', { IfMatch: etag })).toBe('abc');
    expect(await read(client, 'k', { IfNoneMatch: '"other"' })).toBe('abc');
    expect(await refusal(client.send(new GetObjectCommand({ Bucket, Key: 'k', IfMatch: '"other"' })))).toBe('412 PreconditionFailed');
    expect(await refusal(client.send(new HeadObjectCommand({ Bucket, Key: 'k', IfNoneMatch: etag })))).toMatch(/^304 /);
  });

  test('what is missing is named, and HEAD has no body to name it in', async () => {
    const { server, client } = await start();
    expect(await refusal(client.send(new GetObjectCommand({ Bucket, Key: 'no' })))).toBe('404 NoSuchKey');
    expect(await refusal(client.send(new HeadObjectCommand({ Bucket, Key: 'no' })))).toBe('404 NotFound');
    expect(server.requests.at(-1)).toMatchObject({ status: 404, bytesOut: 0 });
  });
});

describe('conditional writes', () => {
  test('If-None-Match lets one of many through', async () => {
    const { server, client } = await start();
    const tries = Array.from({ length: 8 }, (_, i) =>
      client.send(new PutObjectCommand({ Bucket, Key: 'k', Body: `${i}`, IfNoneMatch: '*' })),
    );
    const results = await Promise.allSettled(tries);
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    expect(server.requests.map(({ status }) => status).sort()).toEqual([200, 412, 412, 412, 412, 412, 412, 412]);
  });

  test('If-Match wants the very object', async () => {
    const { server, client } = await start();
    const put = (Body: string, IfMatch: string) => client.send(new PutObjectCommand({ Bucket, Key: 'k', Body, IfMatch }));
    expect(await refusal(put('x', '"any"'))).toBe('404 NoSuchKey');
    const { etag } = server.put(Bucket, 'k', 'one');
    expect(await refusal(put('x', '"any"'))).toBe('412 PreconditionFailed');
    await put('two', etag);
    expect(await server.object(Bucket, 'k')?.text()).toBe('two');
    expect(await refusal(client.send(new DeleteObjectCommand({ Bucket, Key: 'k', IfMatch: etag })))).toBe('412 PreconditionFailed');
    const { Errors } = await client.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects: [{ Key: 'k', ETag: etag }] } }));
    expect(Errors).toMatchObject([{ Key: 'k', Code: 'PreconditionFailed' }]);
    await client.send(new DeleteObjectCommand({ Bucket, Key: 'k', IfMatch: '*' }));
    expect(server.keys(Bucket)).toEqual([]);
    expect(await refusal(client.send(new DeleteObjectCommand({ Bucket, Key: 'k', IfMatch: '*' })))).toBe('404 NoSuchKey');
  });

  test('are unknown to a server that ignores them, and answered 501 by one that refuses them', async () => {
    const ignoring = await start({ conditionalWrites: 'ignored' });
    const refusing = await start({ conditionalWrites: 'refused' });
    for (const { server } of [ignoring, refusing]) server.put(Bucket, 'k', 'old');
    const put = new PutObjectCommand({ Bucket, Key: 'k', Body: 'new', IfNoneMatch: '*' });
    await ignoring.client.send(put);
    expect(await ignoring.server.object(Bucket, 'k')?.text()).toBe('new');
    expect(await refusal(refusing.client.send(put))).toBe('501 NotImplemented');
    expect(await refusing.server.object(Bucket, 'k')?.text()).toBe('old');
  });
});

describe('listing', () => {
  async function pages(client: S3Client, more: object = {}): Promise<string[][]> {
    const found: string[][] = [];
    let ContinuationToken: string | undefined;
    do {
      const page = await client.send(new ListObjectsV2Command({ Bucket, ContinuationToken, ...more }));
      const names = [...(page.Contents ?? []).map(({ Key = '' }) => Key), ...(page.CommonPrefixes ?? []).map(({ Prefix = '' }) => Prefix)];
      expect(page.KeyCount).toBe(names.length);
      found.push(names);
      ContinuationToken = page.NextContinuationToken;
      expect(page.IsTruncated).toBe(ContinuationToken !== undefined);
    } while (ContinuationToken !== undefined);
    return found;
  }

  test('is in the order of bytes, page by page', async () => {
    const { server, client } = await start({ pageSize: 3 });
    const keys = ['B', 'a', 'a/', 'a/b', 'é', '￿', '🚢', 'z'];
    for (const key of keys) server.put(Bucket, key, key);
    const sorted = [...keys].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    expect(await pages(client)).toEqual([sorted.slice(0, 3), sorted.slice(3, 6), sorted.slice(6)]);
    expect(await pages(client, { MaxKeys: 8 })).toHaveLength(3);
    expect(await pages(client, { MaxKeys: 2, Prefix: 'a' })).toEqual([['a', 'a/'], ['a/b']]);
    expect(await pages(client, { StartAfter: 'a/' })).toEqual([
      ['a/b', 'z', 'é'],
      ['￿', '🚢'],
    ]);
  });

  test('folds what shares a delimiter, over page ends too', async () => {
    const { server, client } = await start({ pageSize: 2 });
    for (const key of ['m/a/1', 'm/a/2', 'm/b', 'm/c/1', 'm/c/2', 'm/c/3', 'm/d', 'n']) server.put(Bucket, key, key);
    expect((await pages(client, { Prefix: 'm/', Delimiter: '/' })).map((page) => page.sort())).toEqual([
      ['m/a/', 'm/b'],
      ['m/c/', 'm/d'],
    ]);
    const old = await client.send(new ListObjectsCommand({ Bucket, Prefix: 'm/', Delimiter: '/', Marker: 'm/b' }));
    expect(old).toMatchObject({ IsTruncated: false, CommonPrefixes: [{ Prefix: 'm/c/' }] });
    expect(old.Contents?.map(({ Key }) => Key)).toEqual(['m/d']);
  });

  test('encodes names on request', async () => {
    const { server, client } = await start();
    server.put(Bucket, 'test_file(3) +ü/x.png', '');
    const { Contents } = await client.send(new ListObjectsV2Command({ Bucket, EncodingType: 'url' }));
    expect(Contents?.[0]?.Key).toBe('test_file%283%29+%2B%C3%BC/x.png');
  });
});

describe('copying', () => {
  test('keeps or replaces what is said of the object', async () => {
    const { server, client } = await start();
    server.createBucket('other');
    const source = server.put('other', 'a b/ü', 'body', { metadata: { sha256: 'x' }, tags: { t: '1' }, storageClass: 'STANDARD_IA' });
    const CopySource = `other/${encodeURIComponent('a b/ü')}`;
    const kept = await client.send(new CopyObjectCommand({ Bucket, Key: 'kept', CopySource, CopySourceIfMatch: source.etag }));
    expect(kept.CopyObjectResult?.ETag).toBe(source.etag);
    expect(server.object(Bucket, 'kept')).toMatchObject({ metadata: { sha256: 'x' }, tags: { t: '1' }, storageClass: 'STANDARD' });
    await client.send(
      new CopyObjectCommand({
        Bucket,
        Key: 'new',
        CopySource,
        MetadataDirective: 'REPLACE',
        Metadata: { other: 'y' },
        ContentType: 'text/plain',
        TaggingDirective: 'REPLACE',
        Tagging: 'u=2',
        StorageClass: 'GLACIER_IR',
        ServerSideEncryption: 'aws:kms',
        SSEKMSKeyId: 'key-1',
      }),
    );
    expect(server.object(Bucket, 'new')).toMatchObject({
      metadata: { other: 'y' },
      headers: { 'content-type': 'text/plain' },
      tags: { u: '2' },
      storageClass: 'GLACIER_IR',
      encryption: { algorithm: 'aws:kms', kmsKeyId: 'key-1' },
    });
    expect(await server.object(Bucket, 'new')?.text()).toBe('body');
  });

  test('refuses another source than was meant, itself, and what is too large', async () => {
    const { server, client } = await start({ maxPutSize: 10 });
    server.put(Bucket, 'k', 'body');
    server.put(Bucket, 'large', 'more than ten');
    const copy = (more: { CopySource: string; CopySourceIfMatch?: string; Key?: string }) =>
      client.send(new CopyObjectCommand({ Bucket, Key: 'to', ...more }));
    expect(await refusal(copy({ CopySource: `${Bucket}/k`, CopySourceIfMatch: '"old"' }))).toBe('412 PreconditionFailed');
    expect(await refusal(copy({ CopySource: `${Bucket}/none` }))).toBe('404 NoSuchKey');
    expect(await refusal(copy({ CopySource: `${Bucket}/k`, Key: 'k' }))).toBe('400 InvalidRequest');
    expect(await refusal(copy({ CopySource: `${Bucket}/large` }))).toBe('400 InvalidRequest');
    expect(server.keys(Bucket)).toEqual(['k', 'large']);
  });
});

describe('faults', () => {
  test('S3 errors, also inside a 200', async () => {
    const { server, client } = await start();
    server.put(Bucket, 'k', 'body');
    server.fail({ on: /^PUT/, answer: s3Answer('SlowDown') });
    server.fail({ on: /^PUT/, answer: s3Answer('ConditionalRequestConflict') });
    server.fail({ on: /^PUT/, answer: s3Answer('InternalError', { status: 200 }) });
    const put = () => client.send(new PutObjectCommand({ Bucket, Key: 'new', Body: 'x'.repeat(100_000) }));
    expect(await refusal(put())).toBe('503 SlowDown');
    expect(await refusal(put())).toBe('409 ConditionalRequestConflict');
    expect(await refusal(client.send(new CopyObjectCommand({ Bucket, Key: 'new', CopySource: `${Bucket}/k` })))).toMatch(/InternalError$/);
    expect(server.keys(Bucket)).toEqual(['k']);
    await put();
    expect(server.keys(Bucket)).toEqual(['k', 'new']);
  });

  test('an answer that is lost after the work is done', async () => {
    const { server, client } = await start();
    server.fail({ on: /^PUT/, loseAnswer: true });
    await expect(client.send(new PutObjectCommand({ Bucket, Key: 'k', Body: 'x' }))).rejects.toThrow();
    expect(server.keys(Bucket)).toEqual(['k']);
  });

  test('one verb denied', async () => {
    const { server, client } = await start({ deny: (verb, key) => verb === 'DeleteObject' && key.startsWith('safe/') });
    for (const key of ['safe/1', 'other']) server.put(Bucket, key, '');
    expect(await refusal(client.send(new DeleteObjectCommand({ Bucket, Key: 'safe/1' })))).toBe('403 AccessDenied');
    const { Errors } = await client.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects: [{ Key: 'safe/1' }, { Key: 'other' }] } }));
    expect(Errors).toMatchObject([{ Key: 'safe/1', Code: 'AccessDenied' }]);
    expect(server.keys(Bucket)).toEqual(['safe/1']);
  });
});
