import type { StepContext } from '../../lib/define-step.ts';
import { StepError } from '../../lib/errors.ts';
import { FolderStore } from '../../lib/folder-store/store.ts';
import { bucketOf, prefixIn } from '../../lib/model-uri.ts';
import type { GroupValues } from '../../lib/params/declare.ts';
import type { s3Params, storeDirParams } from '../../lib/params/groups/store.ts';
import { type S3GetOptions, s3Get } from '../../lib/s3-get.ts';
import { regionOf, s3Settings, storeFaults } from '../../lib/s3-settings.ts';

export type PlaceParams = GroupValues<typeof s3Params> &
  GroupValues<typeof storeDirParams> &
  Pick<S3GetOptions, 'retries' | 'stallTimeout'> & { modelUri?: string | undefined };

/** As much of a store as registering needs: a GET now and then. */
export interface Place {
  /** `s3://bucket` or `file:///folder`. */
  uri: string;
  /** What a reader must know besides the URI; empty for a folder and, for the endpoint, on AWS. */
  location: { endpoint?: string | undefined; region?: string | undefined };
  /** The prefix that a model URI of this store names. Throws `usage` for any other. */
  prefixOf(modelUri: string): string;
  /** The object's bytes; undefined when it is not there. */
  get(key: string): Promise<Buffer | undefined>;
}

/** What is wrong with them. */
export function placeFaults(params: PlaceParams): string[] {
  return storeFaults({
    ...params,
    s3Bucket: params.storeDir === undefined ? (params.s3Bucket ?? bucketOf(params.modelUri)) : params.s3Bucket,
  });
}

/** The store that the parameters name; a model URI may name the bucket in their place. Throws `usage` when neither does. */
export async function openPlace(params: PlaceParams, { signal, log }: Pick<StepContext, 'signal' | 'log'>): Promise<Place> {
  const { storeDir, modelUri, retries, stallTimeout } = params;
  if (storeDir !== undefined && params.s3Bucket !== undefined)
    throw new StepError('usage', 'failed to open the store: --s3-bucket and --store-dir are both given');
  if (storeDir !== undefined) return folderPlace(storeDir, params.controlPrefix);
  const bucket = params.s3Bucket ?? bucketOf(modelUri);
  if (bucket === undefined) throw new StepError('usage', 'failed to open the store: --s3-bucket is missing (or --store-dir for a folder)');
  const settings = s3Settings({ ...params, s3Bucket: bucket });
  const uri = `s3://${bucket}`;
  return {
    uri,
    location: { endpoint: settings.endpoint, region: await regionOf(settings) },
    prefixOf: (given) => prefixIn(uri, given),
    get: (key) => s3Get(key, { settings, retries, stallTimeout, signal, log }),
  };
}

function folderPlace(dir: string, controlPrefix: string): Place {
  const store = new FolderStore(dir, controlPrefix);
  return {
    uri: store.uri,
    location: {},
    prefixOf: (given) => prefixIn(store.uri, given),
    get: async (key) => (await store.get(key))?.bytes,
  };
}
