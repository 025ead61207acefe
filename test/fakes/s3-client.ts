import { S3Client, type S3ClientConfig, type S3ServiceException } from '@aws-sdk/client-s3';
import type { FakeS3 } from './s3.ts';

const quiet = { debug() {}, info() {}, warn() {}, error() {} };

/** An AWS SDK client of that server, path style and without retries unless told otherwise. */
export function clientOf(server: FakeS3, config: S3ClientConfig = {}): S3Client {
  return new S3Client({
    endpoint: server.origin,
    region: 'us-east-1',
    credentials: server.credentials,
    forcePathStyle: true,
    maxAttempts: 1,
    logger: quiet,
    ...config,
  });
}

/** How a request is refused: `412 PreconditionFailed`. Fails when it is not refused. */
export async function refusal(request: Promise<unknown>): Promise<string> {
  try {
    await request;
  } catch (error) {
    const { $metadata, name } = error as S3ServiceException;
    if ($metadata === undefined) throw error;
    return `${$metadata.httpStatusCode} ${name}`;
  }
  throw new Error('the request was not refused');
}
