import { request as httpRequest } from 'node:http';
import { CompleteMultipartUploadCommand, CreateMultipartUploadCommand, PutObjectCommand, UploadPartCommand } from '@aws-sdk/client-s3';
import { afterEach, describe, expect, test } from 'vitest';
import { inFrontOf } from './bench/front.ts';
import { FakeS3 } from './fakes/s3.ts';
import { clientOf } from './fakes/s3-client.ts';

const Bucket = 'bucket';
const large = Buffer.alloc(6 * 1024 * 1024, 'weights');
let server: FakeS3;

async function start(): Promise<ReturnType<typeof clientOf>> {
  server = new FakeS3({ discard: true, fast: true });
  server.createBucket(Bucket);
  await server.listen({ front: inFrontOf });
  return clientOf(server);
}

afterEach(async () => await server.close());

describe("the benchmark's S3", () => {
  test('knows the sizes of bodies that it lets go, and keeps small ones', async () => {
    const client = await start();
    for (const [Key, Body] of Object.entries({ one: large, two: 'small', three: large, four: '' })) {
      await client.send(new PutObjectCommand({ Bucket, Key, Body }));
    }
    expect(server.keys(Bucket).map((key) => [key, server.object(Bucket, key)?.size])).toEqual([
      ['four', 0],
      ['one', large.length],
      ['three', large.length],
      ['two', 5],
    ]);
    expect(await server.object(Bucket, 'two')?.text()).toBe('small');
  });

  test('joins parts', async () => {
    const client = await start();
    const { UploadId } = await client.send(new CreateMultipartUploadCommand({ Bucket, Key: 'whole' }));
    const parts = await Promise.all(
      [1, 2, 3].map(async (PartNumber) => {
        const part = await client.send(new UploadPartCommand({ Bucket, Key: 'whole', UploadId, PartNumber, Body: large }));
        return { ETag: part.ETag, ChecksumCRC32: part.ChecksumCRC32, PartNumber };
      }),
    );
    await client.send(new CompleteMultipartUploadCommand({ Bucket, Key: 'whole', UploadId, MultipartUpload: { Parts: parts } }));
    expect(server.object(Bucket, 'whole')?.size).toBe(3 * large.length);
  });

  test('takes a body whose client waits to be told so, and one in chunks of unknown number', async () => {
    await start();
    const put = (headers: Record<string, string>, body: Buffer | ReadableStream) =>
      fetch(`${server.origin}/${Bucket}/key`, { method: 'PUT', headers, body, duplex: 'half' } as RequestInit);
    const { statusCode } = await new Promise<{ statusCode?: number | undefined }>((resolve, reject) => {
      const request = httpRequest(`${server.origin}/${Bucket}/waited`, {
        method: 'PUT',
        headers: { expect: '100-continue', 'content-length': large.length },
      });
      request.on('continue', () => request.end(large));
      request.on('response', (answer) => resolve(answer.resume()));
      request.on('error', reject);
    });
    expect([statusCode, server.object(Bucket, 'waited')?.size]).toEqual([200, large.length]);
    const chunked = await put({}, new Blob([large]).stream());
    expect(chunked.status).toBe(501);
  });
});
