/**
 * The S3 server as a program. Env: HOST, PORT (default 127.0.0.1 and a free port), S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, BUCKETS (made at the
 * start, split by commas), DIR (bodies in that folder instead of memory). Prints its origin.
 */
import { search } from './leaks.ts';
import { FakeS3, testCredentials } from './s3.ts';

search.requests = false;

const { env } = process;
const server = new FakeS3({
  credentials: {
    [env.S3_ACCESS_KEY_ID || testCredentials.accessKeyId]: env.S3_SECRET_ACCESS_KEY || testCredentials.secretAccessKey,
  },
  ...(env.DIR && { dir: env.DIR }),
});
for (const name of (env.BUCKETS ?? '').split(',')) if (name.trim() !== '') server.createBucket(name.trim());

async function stop(): Promise<void> {
  await server.close();
  process.exit(0);
}

async function main(): Promise<void> {
  await server.listen({ host: env.HOST || '127.0.0.1', port: Number(env.PORT || 0) });
  process.once('SIGTERM', () => void stop());
  process.once('SIGINT', () => void stop());
  process.stdout.write(`${server.origin}\n`);
}

void main();
