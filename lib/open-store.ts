import type { StepContext } from './define-step.ts';
import { StepError } from './errors.ts';
import { FolderStore } from './folder-store/store.ts';
import type { GroupValues } from './params/declare.ts';
import type { s3Params, storeDirParams } from './params/groups/store.ts';
import type { transferParams } from './params/groups/transfer.ts';
import { S3Connection } from './s3/connection.ts';
import { S3Store } from './s3/store.ts';
import { s3Settings } from './s3-settings.ts';
import type { Store } from './store.ts';

export type StoreParams = GroupValues<typeof s3Params> &
  GroupValues<typeof storeDirParams> &
  Pick<GroupValues<typeof transferParams>, 'retries' | 'stallTimeout'>;

/** The store that the parameters name: a bucket, or a folder. Throws `usage` when they name none or both. */
export function openStore(params: StoreParams, ctx: Pick<StepContext, 'signal' | 'log'>): Store {
  const { storeDir, s3Bucket, controlPrefix } = params;
  if (storeDir !== undefined && s3Bucket !== undefined)
    throw new StepError('usage', 'failed to open the store: --s3-bucket and --store-dir are both given');
  if (storeDir !== undefined) return new FolderStore(storeDir, controlPrefix);
  if (s3Bucket === undefined)
    throw new StepError('usage', 'failed to open the store: --s3-bucket is missing (or --store-dir for a folder)');
  return new S3Store(openBucket(params, ctx));
}

type BucketParams = GroupValues<typeof s3Params> & Pick<GroupValues<typeof transferParams>, 'retries' | 'stallTimeout'>;

/** The connection to the bucket that the parameters name. Throws `usage` that lists every fault. */
export function openBucket(params: BucketParams, { signal, log }: Pick<StepContext, 'signal' | 'log'>): S3Connection {
  const { s3Checksum: checksum, retries, stallTimeout } = params;
  return new S3Connection({ settings: s3Settings(params), checksum, retries, stallTimeout, signal, log });
}
