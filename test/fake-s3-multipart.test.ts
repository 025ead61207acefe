import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  AbortMultipartUploadCommand,
  type CompletedPart,
  CompleteMultipartUploadCommand,
  type CompleteMultipartUploadCommandInput,
  CopyObjectCommand,
  CreateMultipartUploadCommand,
  type CreateMultipartUploadCommandInput,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListPartsCommand,
  PutObjectCommand,
  type S3Client,
  UploadPartCommand,
  UploadPartCopyCommand,
} from '@aws-sdk/client-s3';
import { afterEach, describe, expect, test } from 'vitest';
import { FakeS3, type FakeS3Options } from './fakes/s3.ts';
import { clientOf, refusal } from './fakes/s3-client.ts';

const Bucket = 'models';
const Key = 'org/model/weights.safetensors';
const servers: FakeS3[] = [];

async function start(options: FakeS3Options = {}): Promise<{ server: FakeS3; client: S3Client }> {
  const server = await new FakeS3({ minPartSize: 4, ...options }).listen();
  servers.push(server);
  server.createBucket(Bucket);
  return { server, client: clientOf(server, { requestChecksumCalculation: 'WHEN_REQUIRED' }) };
}

async function create(client: S3Client, more: Partial<CreateMultipartUploadCommandInput> = {}): Promise<string> {
  return (await client.send(new CreateMultipartUploadCommand({ Bucket, Key, ...more }))).UploadId ?? '';
}

function sendPart(client: S3Client, UploadId: string, PartNumber: number, Body: string | Buffer, more: object = {}) {
  return client.send(new UploadPartCommand({ Bucket, Key, UploadId, PartNumber, Body, ...more }));
}

function complete(client: S3Client, UploadId: string, Parts: CompletedPart[], more: Partial<CompleteMultipartUploadCommandInput> = {}) {
  return client.send(new CompleteMultipartUploadCommand({ Bucket, Key, UploadId, MultipartUpload: { Parts }, ...more }));
}

function etagOf(...bodies: string[]): string {
  const digests = bodies.map((body) => createHash('md5').update(body).digest());
  return `"${createHash('md5').update(Buffer.concat(digests)).digest('hex')}-${bodies.length}"`;
}

afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});

test('parts sent in any order, and again, become one object', async () => {
  const { server, client } = await start();
  const id = await create(client, {
    ContentType: 'application/x',
    Metadata: { sha256: 'abc' },
    Tagging: 'a=1',
    StorageClass: 'STANDARD_IA',
    ServerSideEncryption: 'AES256',
  });
  const [third, first] = await Promise.all([sendPart(client, id, 7, 'end'), sendPart(client, id, 2, 'old!!')]);
  const again = await sendPart(client, id, 2, 'start');
  expect(first?.ETag).not.toBe(again.ETag);
  expect(server.keys(Bucket)).toEqual([]);
  const done = await complete(
    client,
    id,
    [
      { PartNumber: 2, ETag: again.ETag },
      { PartNumber: 7, ETag: third?.ETag },
    ],
    { MpuObjectSize: 8 },
  );
  expect(done).toMatchObject({ ETag: etagOf('start', 'end'), Key, Bucket });
  expect(server.object(Bucket, Key)).toMatchObject({ etag: etagOf('start', 'end'), metadata: { sha256: 'abc' }, tags: { a: '1' } });
  expect(await server.object(Bucket, Key)?.text()).toBe('startend');
  const head = await client.send(new HeadObjectCommand({ Bucket, Key }));
  expect(head).toMatchObject({ ContentLength: 8, StorageClass: 'STANDARD_IA', ContentType: 'application/x' });
  const part = await client.send(new GetObjectCommand({ Bucket, Key, PartNumber: 2 }));
  expect(part).toMatchObject({ PartsCount: 2, ContentRange: 'bytes 5-7/8' });
  expect(await part.Body?.transformToString()).toBe('end');
  const over = await client.send(new GetObjectCommand({ Bucket, Key, Range: 'bytes=3-6' }));
  expect(await over.Body?.transformToString()).toBe('rten');
  expect(server.uploads(Bucket)).toEqual([]);
});

test('completing refuses every list of parts that is not the upload', async () => {
  const { server, client } = await start();
  const id = await create(client);
  const [a, b, c] = [await sendPart(client, id, 1, 'aaaa'), await sendPart(client, id, 2, 'b'), await sendPart(client, id, 3, 'cccc')];
  const [one, two, three] = [
    { PartNumber: 1, ETag: a.ETag },
    { PartNumber: 2, ETag: b.ETag },
    { PartNumber: 3, ETag: c.ETag },
  ];
  expect(await refusal(complete(client, id, []))).toBe('400 MalformedXML');
  expect(await refusal(complete(client, id, [three, one]))).toBe('400 InvalidPartOrder');
  expect(await refusal(complete(client, id, [{ ...one, ETag: b.ETag }]))).toBe('400 InvalidPart');
  expect(await refusal(complete(client, id, [one, { PartNumber: 4, ETag: a.ETag }]))).toBe('400 InvalidPart');
  expect(await refusal(complete(client, id, [one, two, three]))).toBe('400 EntityTooSmall');
  expect(await refusal(complete(client, id, [one, three], { MpuObjectSize: 9 }))).toBe('400 InvalidRequest');
  expect(await refusal(complete(client, 'never', [one]))).toBe('404 NoSuchUpload');
  expect(server.keys(Bucket)).toEqual([]);
  await complete(client, id, [one, two], { MpuObjectSize: 5 });
  expect(await refusal(sendPart(client, id, 1, 'late'))).toBe('404 NoSuchUpload');
});

test('completing again is answered like the first time while the object is there, but not by every server', async () => {
  for (const completeAgain of [true, false]) {
    const { server, client } = await start({ completeAgain });
    const id = await create(client);
    const parts = [{ PartNumber: 1, ETag: (await sendPart(client, id, 1, 'x')).ETag }];
    const first = await complete(client, id, parts, { IfNoneMatch: '*' });
    const again = complete(client, id, parts, { IfNoneMatch: '*' });
    if (completeAgain) expect((await again).ETag).toBe(first.ETag);
    else expect(await refusal(again)).toBe('404 NoSuchUpload');
    server.put(Bucket, Key, 'other');
    expect(await refusal(complete(client, id, parts))).toBe('404 NoSuchUpload');
    expect(await server.object(Bucket, Key)?.text()).toBe('other');
  }
});

test('part numbers outside 1 to 10000 are refused, and the smallest part is 5 MiB unless told otherwise', async () => {
  const { client } = await start({ minPartSize: undefined } as FakeS3Options);
  const id = await create(client);
  for (const number of [0, 10_001]) expect(await refusal(sendPart(client, id, number, 'x'))).toBe('400 InvalidArgument');
  const parts = [];
  for (const PartNumber of [1, 2]) parts.push({ PartNumber, ETag: (await sendPart(client, id, PartNumber, 'x')).ETag });
  expect(await refusal(complete(client, id, parts))).toBe('400 EntityTooSmall');
});

test('a conditional completion leaves the upload open when it is refused', async () => {
  const { server, client } = await start();
  const { etag } = server.put(Bucket, Key, 'there');
  const id = await create(client);
  const parts = [{ PartNumber: 1, ETag: (await sendPart(client, id, 1, 'new')).ETag }];
  expect(await refusal(complete(client, id, parts, { IfNoneMatch: '*' }))).toBe('412 PreconditionFailed');
  expect(await refusal(complete(client, id, parts, { IfMatch: '"other"' }))).toBe('412 PreconditionFailed');
  expect(await server.object(Bucket, Key)?.text()).toBe('there');
  await complete(client, id, parts, { IfMatch: etag });
  expect(await server.object(Bucket, Key)?.text()).toBe('new');
});

test('aborting frees the parts', async () => {
  const { server, client } = await start();
  const id = await create(client);
  await sendPart(client, id, 1, 'x');
  await client.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId: id }));
  expect(server.uploads(Bucket)).toEqual([]);
  expect(await refusal(client.send(new ListPartsCommand({ Bucket, Key, UploadId: id })))).toBe('404 NoSuchUpload');
  expect(await refusal(client.send(new AbortMultipartUploadCommand({ Bucket, Key, UploadId: id })))).toBe('404 NoSuchUpload');
});

test('parts and uploads are listed page by page', async () => {
  const { client } = await start({ pageSize: 2 });
  const ids = [await create(client, { Key: 'b' }), await create(client, { Key: 'a' }), await create(client, { Key: 'b' })];
  const others = [await create(client, { Key: 'c/1' }), await create(client, { Key: 'c/2' })];
  for (const number of [5, 1, 3]) await sendPart(client, ids[0] ?? '', number, `${number}`, { Key: 'b' });

  const parts = await client.send(new ListPartsCommand({ Bucket, Key: 'b', UploadId: ids[0] }));
  expect(parts).toMatchObject({ IsTruncated: true, NextPartNumberMarker: '3', MaxParts: 2 });
  const rest = await client.send(
    new ListPartsCommand({ Bucket, Key: 'b', UploadId: ids[0], PartNumberMarker: parts.NextPartNumberMarker }),
  );
  expect(rest.IsTruncated).toBe(false);
  const md5 = (text: string) => `"${createHash('md5').update(text).digest('hex')}"`;
  expect([...(parts.Parts ?? []), ...(rest.Parts ?? [])].map(({ PartNumber, Size, ETag }) => [PartNumber, Size, ETag])).toEqual([
    [1, 1, md5('1')],
    [3, 1, md5('3')],
    [5, 1, md5('5')],
  ]);

  const found: (string | undefined)[][] = [];
  let marker: { KeyMarker?: string | undefined; UploadIdMarker?: string | undefined } = {};
  for (;;) {
    const page = await client.send(new ListMultipartUploadsCommand({ Bucket, ...marker }));
    found.push((page.Uploads ?? []).map(({ UploadId }) => UploadId));
    if (!page.IsTruncated) break;
    marker = { KeyMarker: page.NextKeyMarker, UploadIdMarker: page.NextUploadIdMarker };
  }
  expect(found).toEqual([[ids[1], ids[0]], [ids[2], others[0]], [others[1]]]);
  const below = await client.send(new ListMultipartUploadsCommand({ Bucket, Prefix: 'c/' }));
  expect(below.Uploads?.map(({ Key: key }) => key)).toEqual(['c/1', 'c/2']);
  const folded = await client.send(new ListMultipartUploadsCommand({ Bucket, Delimiter: '/', Prefix: 'c' }));
  expect(folded).toMatchObject({ CommonPrefixes: [{ Prefix: 'c/' }] });
});

test('parts are copied from ranges of other objects', async () => {
  const { server, client } = await start();
  const { etag } = server.put(Bucket, 'source', 'abcdefghij');
  const id = await create(client);
  const copy = (PartNumber: number, more: object) =>
    client.send(new UploadPartCopyCommand({ Bucket, Key, UploadId: id, PartNumber, CopySource: `${Bucket}/source`, ...more }));
  const first = await copy(1, { CopySourceRange: 'bytes=2-6', CopySourceIfMatch: etag });
  const second = await copy(2, {});
  expect(await refusal(copy(3, { CopySourceRange: 'bytes=5-10' }))).toBe('400 InvalidArgument');
  expect(await refusal(copy(3, { CopySourceIfMatch: '"other"' }))).toBe('412 PreconditionFailed');
  await complete(
    client,
    id,
    [first, second].map(({ CopyPartResult }, index) => ({ PartNumber: index + 1, ETag: CopyPartResult?.ETag })),
  );
  expect(server.object(Bucket, Key)?.etag).toBe(etagOf('cdefg', 'abcdefghij'));
  expect(await server.object(Bucket, Key)?.text()).toBe('cdefgabcdefghij');
});

test('a copied multipart object is one piece, with the ETag of one', async () => {
  const { client } = await start();
  const id = await create(client);
  await complete(client, id, [{ PartNumber: 1, ETag: (await sendPart(client, id, 1, 'body')).ETag }]);
  const copied = await client.send(new CopyObjectCommand({ Bucket, Key: 'copy', CopySource: `${Bucket}/${Key}` }));
  expect(copied.CopyObjectResult?.ETag).toBe(`"${createHash('md5').update('body').digest('hex')}"`);
});

describe('where bodies go', () => {
  const large = Buffer.alloc(2 * 1024 * 1024, 'model weights ');

  async function roundTrip(client: S3Client): Promise<Buffer> {
    const id = await create(client);
    const parts = [];
    for (const PartNumber of [1, 2]) parts.push({ PartNumber, ETag: (await sendPart(client, id, PartNumber, large)).ETag });
    await complete(client, id, parts);
    const { Body } = await client.send(new GetObjectCommand({ Bucket, Key, Range: `bytes=${large.length - 100}-${large.length + 99}` }));
    return Buffer.from((await Body?.transformToByteArray()) ?? []);
  }

  test('into files of a folder, which go when the objects go', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'fake-s3-'));
    const { server, client } = await start({ dir });
    const expected = Buffer.concat([large.subarray(-100), large.subarray(0, 100)]);
    expect((await roundTrip(client)).equals(expected)).toBe(true);
    expect(readdirSync(join(dir, 'bodies'))).toHaveLength(2);
    await client.send(new CopyObjectCommand({ Bucket, Key: 'copy', CopySource: `${Bucket}/${Key}` }));
    await client.send(new PutObjectCommand({ Bucket, Key, Body: 'small' }));
    expect((await server.object(Bucket, 'copy')?.bytes())?.equals(Buffer.concat([large, large]))).toBe(true);
    await client.send(new PutObjectCommand({ Bucket, Key: 'copy', Body: 'small' }));
    await expect.poll(() => readdirSync(join(dir, 'bodies'))).toHaveLength(2);
    await server.close();
    expect(existsSync(join(dir, 'bodies'))).toBe(false);
    rmSync(dir, { recursive: true });
  });

  test('and not when the client goes away in the middle', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'fake-s3-'));
    const { server } = await start({ dir, fast: true });
    const request = httpRequest(`${server.origin}/${Bucket}/${Key}`, { method: 'PUT', headers: { 'content-length': large.length } });
    request.on('error', () => {});
    request.write(large.subarray(0, large.length / 2));
    await expect.poll(() => server.requests[0]?.bytesIn).toBe(large.length / 2);
    expect(readdirSync(join(dir, 'bodies'))).toHaveLength(1);
    request.destroy();
    await expect.poll(() => readdirSync(join(dir, 'bodies'))).toEqual([]);
    expect(server.keys(Bucket)).toEqual([]);
    rmSync(dir, { recursive: true });
  });

  test('nowhere, but sizes, digests and small objects stay', async () => {
    const { server, client } = await start({ discard: true });
    expect((await roundTrip(client)).equals(Buffer.alloc(200))).toBe(true);
    const text = large.toString();
    expect(server.object(Bucket, Key)).toMatchObject({ size: 2 * large.length, etag: etagOf(text, text) });
    await client.send(new PutObjectCommand({ Bucket, Key: 'manifest', Body: '{"a":1}' }));
    expect(await server.object(Bucket, 'manifest')?.text()).toBe('{"a":1}');
  });

  test('unhashed and unsigned where only speed counts', async () => {
    const { server, client } = await start({ discard: true, fast: true });
    const credentials = { accessKeyId: 'any', secretAccessKey: 'any' };
    await roundTrip(clientOf(server, { credentials, requestChecksumCalculation: 'WHEN_REQUIRED' }));
    expect(server.object(Bucket, Key)?.size).toBe(2 * large.length);
    const { ETag } = await client.send(new PutObjectCommand({ Bucket, Key: 'small', Body: 'x' }));
    expect(ETag).toBe(`"${createHash('md5').update('x').digest('hex')}"`);
  });
});
