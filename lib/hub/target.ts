import type { Log } from '../log.ts';
import type { GroupValues } from '../params/declare.ts';
import type { modelParams, pinParams, selectionParams } from '../params/groups/model.ts';
import type { policyParams } from '../params/groups/policy.ts';
import { checkPaths } from '../paths.ts';
import { checkKnown } from '../policy/policy.ts';
import { type PublishingParams, publishingOf } from '../publish/publishing.ts';
import { selectFiles } from '../selection.ts';
import type { Store } from '../store.ts';
import type { Hub } from './connection.ts';
import { listFiles } from './list.ts';
import { resolveRevision } from './resolve.ts';
import { sourceRecord } from './source-record.ts';

export type TargetParams = Pick<GroupValues<typeof modelParams>, 'revision'> &
  GroupValues<typeof pinParams> &
  GroupValues<typeof selectionParams> &
  GroupValues<typeof policyParams> &
  PublishingParams;

export interface Ends {
  hub: Hub;
  store: Store;
  log: Log;
  signal: AbortSignal;
}

/** What the Hub has, and where it goes; `method` when a smaller model is made of it. Throws `refused` when the policy forbids it. */
export async function findTarget(params: TargetParams, modelId: string, { hub, store, log, signal }: Ends, method?: string) {
  const { revision, pinnedCommit, concurrency, allowPatterns, ignorePatterns, profile } = params;
  const info = await resolveRevision(hub, modelId, pinnedCommit ?? revision);
  const source = { repo: modelId, commit: info.commit };
  const selection = { allowPatterns, ignorePatterns, profile };
  const files = selectFiles(await listFiles(hub, modelId, info.commit), selection);
  const paths = files.map(({ path }) => path);
  checkPaths(paths);
  checkKnown(params, { license: info.license, paths }, log);
  const { uri, ...publishing } = publishingOf(params, store, { ...source, method });
  return {
    info,
    uri,
    model: { hub, source, selection, files, concurrency },
    /** For publish, but for the content. */
    place: { ...publishing, log, signal, source: Buffer.from(sourceRecord(hub, modelId, revision, info)) },
  };
}
