/** The S3 of the benchmark as a program: it keeps no bodies of weights, nor verifies them. Env: BUCKETS (made at the start, split by commas). Prints its origin. */
import { search } from '../fakes/leaks.ts';
import { FakeS3 } from '../fakes/s3.ts';
import { inFrontOf } from './s3-front.ts';

search.requests = false;

async function main(): Promise<void> {
  const server = new FakeS3({ discard: true, fast: true });
  for (const name of (process.env.BUCKETS ?? '').split(',')) server.createBucket(name);
  server.forgetRequests();
  await server.listen({ front: inFrontOf });
  process.stdout.write(`${server.origin}\n`);
}

void main();
