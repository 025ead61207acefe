import { type Identity, namesOf, prefixOf, versionsPrefix } from '../naming.ts';
import type { GroupValues } from '../params/declare.ts';
import type { namingParams } from '../params/groups/model.ts';
import type { copyParams, publishParams } from '../params/groups/publishing.ts';
import type { s3Params } from '../params/groups/store.ts';
import type { transferParams } from '../params/groups/transfer.ts';
import type { Store } from '../store.ts';
import { prefixesToCopyFrom } from './copies.ts';
import { placeOf } from './model-place.ts';

export type PublishingParams = GroupValues<typeof namingParams> &
  GroupValues<typeof publishParams> &
  GroupValues<typeof copyParams> &
  Pick<GroupValues<typeof s3Params>, 'keyTemplate' | 'controlPrefix'> &
  Pick<GroupValues<typeof transferParams>, 'concurrency'>;

/** Where a model goes in a store, and by which rules: for publish. */
export function publishingOf(params: PublishingParams, store: Store, identity: Identity) {
  const { keyTemplate, controlPrefix, replace, rayHash, concurrency } = params;
  const names = namesOf(identity, params);
  const prefix = prefixOf(keyTemplate, identity, names, controlPrefix);
  return {
    uri: `${store.uri}/${placeOf(controlPrefix, prefix, identity.method).path}`,
    store,
    prefix,
    controlPrefix,
    versionsPrefix: versionsPrefix(keyTemplate, identity, names),
    copyFrom: prefixesToCopyFrom(store, params.copyFrom),
    replace,
    rayHash,
    concurrency,
  };
}
