import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CopyObjectCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  PutObjectCommand,
  type S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';

const wrongEtag = `"${'0'.repeat(32)}"`;

/** One question about a store: asked with plain SDK calls, not through our own client. */
export interface Feature {
  name: string;
  ask(client: S3Client, Bucket: string): Promise<boolean>;
}

export const features: readonly Feature[] = [
  {
    name: 'If-None-Match on puts',
    ask: async (client, Bucket) => {
      await put(client, Bucket, 'a');
      return await refuses(put(client, Bucket, 'a', { IfNoneMatch: '*' }));
    },
  },
  {
    name: 'If-Match on puts',
    ask: async (client, Bucket) => {
      const etag = await put(client, Bucket, 'b');
      return (
        !(await refuses(put(client, Bucket, 'b', { IfMatch: etag }))) && (await refuses(put(client, Bucket, 'b', { IfMatch: wrongEtag })))
      );
    },
  },
  {
    name: 'If-Match without quotes',
    ask: async (client, Bucket) => {
      const etag = (await put(client, Bucket, 'c')).replaceAll('"', '');
      return (
        !(await refuses(put(client, Bucket, 'c', { IfMatch: etag }))) &&
        (await refuses(put(client, Bucket, 'c', { IfMatch: '0'.repeat(32) })))
      );
    },
  },
  {
    name: 'If-Match on deletes',
    ask: async (client, Bucket) => {
      await put(client, Bucket, 'd');
      return await refuses(client.send(new DeleteObjectCommand({ Bucket, Key: 'features/d', IfMatch: wrongEtag })));
    },
  },
  {
    name: 'conditions on copies',
    ask: async (client, Bucket) => {
      await put(client, Bucket, 'e');
      const input = { Bucket, Key: 'features/f', CopySource: `${Bucket}/features/e`, CopySourceIfMatch: wrongEtag };
      return await refuses(client.send(new CopyObjectCommand(input)));
    },
  },
  {
    name: 'crc32 header verified',
    ask: async (client, Bucket) => await refuses(put(client, Bucket, 'g', { ChecksumCRC32: 'AAAAAA==' })),
  },
  {
    name: 'signed sha256 verified',
    ask: async (client, Bucket) => {
      const command = new PutObjectCommand({ Bucket, Key: 'features/h', Body: 'these bytes' });
      command.middlewareStack.add(
        (next) => (args) => {
          (args.request as { body: string }).body = 'other bytes';
          return next(args);
        },
        { step: 'finalizeRequest', priority: 'low', name: 'otherBytes' },
      );
      return await refuses(client.send(command));
    },
  },
  {
    name: 'lists unfinished uploads',
    ask: async (client, Bucket) => {
      const upload = { Bucket, Key: 'features/i' };
      const { UploadId } = await client.send(new CreateMultipartUploadCommand(upload));
      const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket, Prefix: 'features/' }));
      await client.send(new AbortMultipartUploadCommand({ ...upload, UploadId }));
      return Uploads.some((each) => each.UploadId === UploadId);
    },
  },
  {
    name: 'a completion can be repeated',
    ask: async (client, Bucket) => {
      const upload = { Bucket, Key: 'features/j' };
      const { UploadId } = await client.send(new CreateMultipartUploadCommand(upload));
      const { ETag } = await client.send(new UploadPartCommand({ ...upload, UploadId, PartNumber: 1, Body: 'part' }));
      const complete = () =>
        client.send(new CompleteMultipartUploadCommand({ ...upload, UploadId, MultipartUpload: { Parts: [{ PartNumber: 1, ETag }] } }));
      await complete();
      return !(await refuses(complete()));
    },
  },
  {
    name: 'keeps metadata as it is',
    ask: async (client, Bucket) => {
      await put(client, Bucket, 'k', { Metadata: { 'modelferry-sha256': 'abc' } });
      const { Metadata } = await client.send(new HeadObjectCommand({ Bucket, Key: 'features/k' }));
      return Metadata?.['modelferry-sha256'] === 'abc';
    },
  },
];

async function put(client: S3Client, Bucket: string, name: string, more: object = {}): Promise<string> {
  const { ETag } = await client.send(new PutObjectCommand({ Bucket, Key: `features/${name}`, Body: 'bytes', ...more }));
  return ETag ?? '';
}

async function refuses(call: Promise<unknown>): Promise<boolean> {
  try {
    await call;
    return false;
  } catch (error) {
    const status = (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode ?? 0;
    // What is no word of the store is no answer to the question.
    if (status < 400 || status === 403) throw error;
    return true;
  }
}
