import { StepError } from './errors.ts';
import { FolderStore } from './folder-store/store.ts';
import type { GroupValues } from './params/declare.ts';
import type { s3Params, storeDirParams, transferParams } from './params/groups.ts';
import { S3Connection } from './s3/connection.ts';
import { S3Store } from './s3/store.ts';
import { s3Settings } from './s3-settings.ts';
import type { StepContext } from './step.ts';
import type { Store } from './store.ts';

type StoreParams = GroupValues<typeof s3Params> &
  GroupValues<typeof storeDirParams> &
  Pick<GroupValues<typeof transferParams>, 'retries' | 'stallTimeout'>;

/** The store that the parameters name: a bucket, or a folder. Throws `usage` when they name none or both. */
export function openStore(params: StoreParams, { signal, log }: Pick<StepContext, 'signal' | 'log'>): Store {
  const { storeDir, s3Bucket, controlPrefix, s3Checksum, retries, stallTimeout } = params;
  if (storeDir !== undefined && s3Bucket !== undefined)
    throw new StepError('usage', 'failed to open the store: --s3-bucket and --store-dir are both given');
  if (storeDir !== undefined) return new FolderStore(storeDir, controlPrefix);
  if (s3Bucket === undefined)
    throw new StepError('usage', 'failed to open the store: --s3-bucket is missing (or --store-dir for a folder)');
  return new S3Store(new S3Connection({ settings: s3Settings(params), checksum: s3Checksum, retries, stallTimeout, signal, log }));
}
