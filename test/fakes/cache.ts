import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Files } from './content.ts';
import { FakeHub } from './hub.ts';
import { FakeS3 } from './s3.ts';

/** A Hub, an S3 with the bucket `models`, and a folder of this machine: what a cache of models stands between. */
export interface FakeCache {
  hub: FakeHub;
  s3: FakeS3;
  dir: string;
  /** Names all of them, with a workspace in the folder. */
  env: Record<string, string>;
  close: () => Promise<void>;
}

/** Names an S3's bucket `models`, and its keys. */
export function storeEnv({ origin, credentials }: FakeS3): Record<string, string> {
  const { accessKeyId, secretAccessKey } = credentials;
  return { S3_BUCKET: 'models', S3_ENDPOINT: origin, AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey };
}

/** Opens them, with these repositories on the Hub. */
export async function openCache(repos: Record<string, Files>): Promise<FakeCache> {
  const hub = await new FakeHub().listen();
  const s3 = new FakeS3();
  await s3.listen();
  for (const [id, files] of Object.entries(repos)) hub.addRepo({ id, files });
  s3.createBucket('models');
  const dir = await mkdtemp(join(tmpdir(), 'cache-'));
  const env = {
    HF_ENDPOINT: hub.origin,
    ...storeEnv(s3),
    WORKSPACE: join(dir, 'workspace'),
    RETRIES: '1',
  };
  const close = async () => {
    await Promise.all([hub.close(), s3.close()]);
    await rm(dir, { recursive: true });
  };
  return { hub, s3, dir, env, close };
}
