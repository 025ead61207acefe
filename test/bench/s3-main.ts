import { search } from '../fakes/leaks.ts';
import { FakeS3 } from '../fakes/s3.ts';
import { inFrontOf } from './front.ts';
import type { S3Arguments } from './servers.ts';

search.requests = false;

/** The S3 of the benchmark as a program: it keeps no bodies of weights, nor verifies them. argv: JSON of S3Arguments. Prints its origin. */
async function main(): Promise<void> {
  const { bucket, link } = JSON.parse(process.argv[2] ?? '') as S3Arguments;
  const server = new FakeS3({ discard: true, fast: true });
  server.createBucket(bucket);
  server.forgetRequests();
  await server.listen({ front: (http) => inFrontOf(http, link) });
  process.stdout.write(`${server.origin}\n`);
}

void main();
