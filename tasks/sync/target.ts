import type { Hub } from '../../lib/hub/connection.ts';
import { listFiles } from '../../lib/hub/list.ts';
import { resolveRevision } from '../../lib/hub/resolve.ts';
import { sourceRecord } from '../../lib/hub/source-record.ts';
import type { Log } from '../../lib/log.ts';
import { namesOf, prefixOf, versionsPrefix } from '../../lib/naming.ts';
import type { GroupValues } from '../../lib/params/declare.ts';
import type {
  copyParams,
  modelParams,
  namingParams,
  policyParams,
  publishParams,
  s3Params,
  selectionParams,
  transferParams,
} from '../../lib/params/groups.ts';
import { checkPaths } from '../../lib/paths.ts';
import { checkKnown } from '../../lib/policy/policy.ts';
import { prefixesToCopyFrom } from '../../lib/publish/copies.ts';
import { selectFiles } from '../../lib/selection.ts';
import type { Store } from '../../lib/store.ts';

export type TargetParams = Pick<GroupValues<typeof modelParams>, 'revision'> &
  GroupValues<typeof namingParams> &
  GroupValues<typeof selectionParams> &
  GroupValues<typeof policyParams> &
  GroupValues<typeof publishParams> &
  GroupValues<typeof copyParams> &
  Pick<GroupValues<typeof s3Params>, 'keyTemplate' | 'controlPrefix'> &
  Pick<GroupValues<typeof transferParams>, 'concurrency'>;

export interface Ends {
  hub: Hub;
  store: Store;
  log: Log;
  signal: AbortSignal;
}

/** What the Hub has, and where it goes; `method` when a smaller model is made of it. Throws `refused` when the policy forbids it. */
export async function findTarget(params: TargetParams, modelId: string, { hub, store, log, signal }: Ends, method?: string) {
  const { revision, keyTemplate, controlPrefix, concurrency, allowPatterns, ignorePatterns, profile, replace, rayHash } = params;
  const info = await resolveRevision(hub, modelId, revision);
  const source = { repo: modelId, commit: info.commit };
  const selection = { allowPatterns, ignorePatterns, profile };
  const files = selectFiles(await listFiles(hub, modelId, info.commit), selection);
  const paths = files.map(({ path }) => path);
  checkPaths(paths);
  checkKnown(params, { license: info.license, paths }, log);
  const identity = { ...source, method };
  const names = namesOf(identity, params);
  const prefix = prefixOf(keyTemplate, identity, names, controlPrefix);
  return {
    info,
    uri: `${store.uri}/${prefix}/`,
    model: { hub, source, selection, files, concurrency },
    /** For publish, but for the content. */
    place: {
      store,
      log,
      signal,
      source: Buffer.from(sourceRecord(hub, modelId, revision, info)),
      prefix,
      controlPrefix,
      versionsPrefix: versionsPrefix(keyTemplate, identity, names),
      copyFrom: prefixesToCopyFrom(store, params.copyFrom),
      replace,
      rayHash,
      concurrency,
    },
  };
}
