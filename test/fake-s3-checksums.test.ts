import { createHash, randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import {
  type ChecksumAlgorithm,
  type CompletedPart,
  CompleteMultipartUploadCommand,
  CopyObjectCommand,
  CreateMultipartUploadCommand,
  type CreateMultipartUploadCommandInput,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListPartsCommand,
  PutObjectCommand,
  type PutObjectCommandInput,
  type S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { afterEach, describe, expect, test } from 'vitest';
import { FakeS3, type FakeS3Options } from './fakes/s3.ts';
import { clientOf, refusal } from './fakes/s3-client.ts';

const Bucket = 'models';
const Key = 'k';
const servers: FakeS3[] = [];

/** A server, a client with the SDK's own defaults, and one that adds a checksum only where told. */
async function start(options: FakeS3Options = {}): Promise<{ server: FakeS3; client: S3Client; plain: S3Client }> {
  const server = await new FakeS3({ minPartSize: 4, ...options }).listen();
  servers.push(server);
  server.createBucket(Bucket);
  return { server, client: clientOf(server), plain: clientOf(server, { requestChecksumCalculation: 'WHEN_REQUIRED' }) };
}

/** Digests of the text 123456789, which the catalogues of CRCs give as check values. */
const known: Record<string, string> = {
  CRC32: hex('cbf43926'),
  CRC32C: hex('e3069283'),
  CRC64NVME: hex('ae8b14860a799888'),
  SHA1: createHash('sha1').update('123456789').digest('base64'),
  SHA256: createHash('sha256').update('123456789').digest('base64'),
};

function hex(digest: string): string {
  return Buffer.from(digest, 'hex').toString('base64');
}

afterEach(async () => {
  for (const server of servers.splice(0)) await server.close();
});

describe.each(Object.entries(known))('%s', (name, digest) => {
  const field = `Checksum${name}`;
  const put = (more: object): PutObjectCommandInput => ({ Bucket, Key, Body: '123456789', ...more });

  test('as a header is verified, kept and shown', async () => {
    const { plain } = await start();
    expect(await plain.send(new PutObjectCommand(put({ [field]: digest })))).toMatchObject({
      [field]: digest,
      ChecksumType: 'FULL_OBJECT',
    });
    const shown = await plain.send(new HeadObjectCommand({ Bucket, Key, ChecksumMode: 'ENABLED' }));
    expect(shown).toMatchObject({ [field]: digest, ChecksumType: 'FULL_OBJECT' });
    expect((await plain.send(new HeadObjectCommand({ Bucket, Key }))) as object).not.toHaveProperty(field);
  });

  test('that is wrong or no digest at all is refused', async () => {
    const { server, plain } = await start();
    const wrong = Buffer.from(digest, 'base64').fill(0).toString('base64');
    expect(await refusal(plain.send(new PutObjectCommand(put({ [field]: wrong }))))).toBe('400 BadDigest');
    expect(await refusal(plain.send(new PutObjectCommand(put({ [field]: 'AAA' }))))).toBe('400 InvalidRequest');
    expect(server.keys(Bucket)).toEqual([]);
  });

  test('of a copy is the same', async () => {
    const { plain } = await start();
    await plain.send(new PutObjectCommand(put({ [field]: digest })));
    const { CopyObjectResult } = await plain.send(new CopyObjectCommand({ Bucket, Key: 'copy', CopySource: `${Bucket}/${Key}` }));
    expect(CopyObjectResult).toMatchObject({ [field]: digest });
  });
});

test('streams carry their checksum in the trailers', async () => {
  const { server, client } = await start();
  const bytes = randomBytes(300_000);
  const body = () => Readable.from([bytes.subarray(0, 1000), bytes.subarray(1000)]);
  await client.send(new PutObjectCommand({ Bucket, Key, Body: body(), ContentLength: bytes.length, ChecksumAlgorithm: 'SHA256' }));
  const sent = server.requests.at(-1);
  expect(sent?.headers).toMatchObject({ 'content-encoding': 'aws-chunked', 'x-amz-trailer': 'x-amz-checksum-sha256' });
  expect(sent?.headers['x-amz-content-sha256']).toBe('STREAMING-UNSIGNED-PAYLOAD-TRAILER');
  expect(server.object(Bucket, Key)?.checksums).toEqual({ sha256: createHash('sha256').update(bytes).digest('base64') });
  expect(server.object(Bucket, Key)?.headers).not.toHaveProperty('content-encoding');
  expect((await server.object(Bucket, Key)?.bytes())?.equals(bytes)).toBe(true);
});

test('an object without a checksum has a CRC64NVME', async () => {
  const { plain } = await start();
  const put = await plain.send(new PutObjectCommand({ Bucket, Key, Body: '123456789' }));
  expect(put).toMatchObject({ ChecksumCRC64NVME: known.CRC64NVME });
  const shown = await plain.send(new GetObjectCommand({ Bucket, Key, ChecksumMode: 'ENABLED' }));
  expect(shown).toMatchObject({ ChecksumCRC64NVME: known.CRC64NVME, ChecksumType: 'FULL_OBJECT' });
  const { UploadId } = await plain.send(new CreateMultipartUploadCommand({ Bucket, Key: 'multi', ContentType: 'a/b' }));
  const { ETag } = await plain.send(new UploadPartCommand({ Bucket, Key: 'multi', UploadId, PartNumber: 1, Body: '123456789' }));
  await plain.send(
    new CompleteMultipartUploadCommand({ Bucket, Key: 'multi', UploadId, MultipartUpload: { Parts: [{ PartNumber: 1, ETag }] } }),
  );
  const multi = await plain.send(new HeadObjectCommand({ Bucket, Key: 'multi', ChecksumMode: 'ENABLED' }));
  expect(multi).toMatchObject({ ChecksumCRC64NVME: known.CRC64NVME });
});

test('Content-MD5 is verified', async () => {
  const { plain } = await start();
  const put = (ContentMD5: string) => plain.send(new PutObjectCommand({ Bucket, Key, Body: 'x', ContentMD5 }));
  expect(await refusal(put(createHash('md5').update('y').digest('base64')))).toBe('400 BadDigest');
  expect(await refusal(put('AAAA'))).toBe('400 InvalidDigest');
  await put(createHash('md5').update('x').digest('base64'));
});

describe('multiparts', () => {
  const bodies = ['first part', 'second', 'the third one'];

  async function upload(client: S3Client, create: Partial<CreateMultipartUploadCommandInput>, part: object = {}) {
    const { UploadId } = await client.send(new CreateMultipartUploadCommand({ Bucket, Key, ...create }));
    const Parts: CompletedPart[] = [];
    for (const [index, Body] of bodies.entries()) {
      const PartNumber = index + 1;
      const answer = await client.send(new UploadPartCommand({ Bucket, Key, UploadId, PartNumber, Body, ...part }));
      const { ETag, ChecksumCRC32, ChecksumCRC32C, ChecksumCRC64NVME, ChecksumSHA1, ChecksumSHA256 } = answer;
      Parts.push({ PartNumber, ETag, ChecksumCRC32, ChecksumCRC32C, ChecksumCRC64NVME, ChecksumSHA1, ChecksumSHA256 });
    }
    const finish = (more: object = {}, parts = Parts) =>
      client.send(new CompleteMultipartUploadCommand({ Bucket, Key, UploadId, MultipartUpload: { Parts: parts }, ...more }));
    return { UploadId, Parts, finish };
  }

  const bare = (parts: CompletedPart[]) => parts.map(({ PartNumber, ETag }) => ({ PartNumber, ETag }));

  test.each(['CRC32', 'CRC32C', 'SHA1', 'SHA256'] as ChecksumAlgorithm[])(
    'COMPOSITE %s is a digest of digests',
    async (ChecksumAlgorithm) => {
      const { client } = await start();
      const { UploadId, Parts, finish } = await upload(client, { ChecksumAlgorithm }, { ChecksumAlgorithm });
      const field = `Checksum${ChecksumAlgorithm}` as 'ChecksumSHA256';
      const listed = await client.send(new ListPartsCommand({ Bucket, Key, UploadId }));
      expect(listed).toMatchObject({ ChecksumAlgorithm, ChecksumType: 'COMPOSITE' });
      expect(listed.Parts?.map((part) => part[field])).toEqual(Parts.map((part) => part[field]));
      expect(await refusal(finish({}, bare(Parts)))).toBe('400 InvalidRequest');
      expect(
        await refusal(
          finish(
            {},
            Parts.map((part, i) => (i === 1 ? { ...part, [field]: Parts[0]?.[field] } : part)),
          ),
        ),
      ).toBe('400 InvalidPart');
      const done = await finish();
      expect(done[field]).toMatch(/-3$/);
      if (ChecksumAlgorithm === 'SHA256') {
        const digests = bodies.map((body) => createHash('sha256').update(body).digest());
        expect(done[field]).toBe(`${createHash('sha256').update(Buffer.concat(digests)).digest('base64')}-3`);
      }
      expect(await client.send(new HeadObjectCommand({ Bucket, Key, ChecksumMode: 'ENABLED' }))).toMatchObject({
        [field]: done[field],
        ChecksumType: 'COMPOSITE',
      });
    },
  );

  test.each(['CRC32', 'CRC32C', 'CRC64NVME'] as ChecksumAlgorithm[])('FULL_OBJECT %s is that of the whole', async (ChecksumAlgorithm) => {
    const { client, plain } = await start();
    const field = `Checksum${ChecksumAlgorithm}` as 'ChecksumCRC32';
    const { Parts, finish } = await upload(plain, { ChecksumAlgorithm, ChecksumType: 'FULL_OBJECT' });
    expect(Parts.every((part) => part[field] !== undefined)).toBe(true);
    expect(await refusal(finish({ [field]: Parts[0]?.[field] }))).toBe('400 BadDigest');
    expect(await refusal(finish({ ChecksumType: 'COMPOSITE' }))).toBe('400 InvalidRequest');
    const done = await finish({ ChecksumType: 'FULL_OBJECT' }, bare(Parts));
    const whole = { Bucket, Key: 'whole', Body: bodies.join(''), [field]: done[field] };
    expect(await client.send(new PutObjectCommand(whole))).toMatchObject({ [field]: done[field] });
  });

  test('another algorithm than the upload was made for is refused', async () => {
    const { plain } = await start();
    const make = (more: object) => plain.send(new CreateMultipartUploadCommand({ Bucket, Key, ...more }));
    const { UploadId } = await make({ ChecksumAlgorithm: 'SHA256' });
    const part = (more: object) => plain.send(new UploadPartCommand({ Bucket, Key, UploadId, PartNumber: 1, Body: '123456789', ...more }));
    expect(await refusal(part({ ChecksumCRC32: known.CRC32 }))).toBe('400 InvalidRequest');
    expect(await refusal(part({}))).toBe('400 InvalidRequest');
    await part({ ChecksumSHA256: known.SHA256 });
    expect(await refusal(make({ ChecksumAlgorithm: 'SHA256', ChecksumType: 'FULL_OBJECT' }))).toBe('400 InvalidRequest');
    expect(await refusal(make({ ChecksumAlgorithm: 'CRC64NVME', ChecksumType: 'COMPOSITE' }))).toBe('400 InvalidRequest');
  });

  test('checksums that the SDK adds to parts on its own have to be listed', async () => {
    const { client } = await start();
    const { Parts, finish } = await upload(client, {});
    expect(Parts.every(({ ChecksumCRC32 }) => ChecksumCRC32 !== undefined)).toBe(true);
    expect(await refusal(finish({}, bare(Parts)))).toBe('400 InvalidPart');
    await finish();
  });
});

describe('old servers', () => {
  test('ignore checksums, and take the frames off what is chunked', async () => {
    const { server, client, plain } = await start({ checksums: 'ignored' });
    await plain.send(new PutObjectCommand({ Bucket, Key: 'wrong', Body: 'x', ChecksumCRC32: 'AAAAAA==' }));
    await client.send(new PutObjectCommand({ Bucket, Key, Body: Readable.from([Buffer.from('streamed')]), ContentLength: 8 }));
    expect(await server.object(Bucket, Key)?.text()).toBe('streamed');
    const head = await plain.send(new HeadObjectCommand({ Bucket, Key: 'wrong', ChecksumMode: 'ENABLED' }));
    expect(Object.keys(head).filter((name) => name.startsWith('Checksum'))).toEqual([]);
    const { UploadId } = await plain.send(new CreateMultipartUploadCommand({ Bucket, Key, ChecksumAlgorithm: 'SHA256' }));
    expect((await plain.send(new ListPartsCommand({ Bucket, Key, UploadId }))).ChecksumAlgorithm).toBeUndefined();
  });

  test('refuse trailers, and want Content-MD5 on DeleteObjects', async () => {
    const { server, client, plain } = await start({ checksums: 'refused' });
    const body = () => Readable.from([Buffer.from('streamed')]);
    expect(await refusal(client.send(new PutObjectCommand({ Bucket, Key, Body: body(), ContentLength: 8 })))).toBe('501 NotImplemented');
    expect(server.keys(Bucket)).toEqual([]);
    await plain.send(new PutObjectCommand({ Bucket, Key, Body: body(), ContentLength: 8 }));
    const deletion = new DeleteObjectsCommand({ Bucket, Delete: { Objects: [{ Key }] } });
    expect(await refusal(plain.send(deletion))).toBe('400 MissingContentMD5');
    expect(server.keys(Bucket)).toEqual([Key]);
  });
});
