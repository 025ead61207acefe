import { randomUUID } from 'node:crypto';
import { hubOf } from '../../lib/hub/connection.ts';
import { hubBytes, hubContent } from '../../lib/hub/content.ts';
import { listFiles } from '../../lib/hub/list.ts';
import { resolveRevision } from '../../lib/hub/resolve.ts';
import { sourceRecord } from '../../lib/hub/source-record.ts';
import { sha256Of } from '../../lib/integrity.ts';
import { namesOf, prefixOf, versionsPrefix } from '../../lib/naming.ts';
import { openStore } from '../../lib/open-store.ts';
import { schema } from '../../lib/params/declare.ts';
import {
  hubParams,
  modelParams,
  namingParams,
  networkParams,
  publishParams,
  s3Params,
  selectionParams,
  storeDirParams,
  transferParams,
  waitParams,
} from '../../lib/params/groups.ts';
import { publishResults } from '../../lib/params/results.ts';
import { checkPaths } from '../../lib/paths.ts';
import { showPlan } from '../../lib/publish/plan.ts';
import { planPublish, publish } from '../../lib/publish/publish.ts';
import { makeSender } from '../../lib/publish/send.ts';
import { selectFiles } from '../../lib/selection.ts';
import { defineStep } from '../../lib/step.ts';
import { Budget } from '../../lib/transfer/budget.ts';
import { BufferPool, bufferBytes } from '../../lib/transfer/buffers.ts';

const { manifest: _, ...syncResults } = publishResults;

export const sync = defineStep({
  name: 'sync',
  summary: 'Brings a model from the Hub into the store with no disk: verified while it streams.',
  params: schema(
    {
      ...modelParams,
      ...namingParams,
      ...selectionParams,
      ...hubParams,
      ...s3Params,
      ...storeDirParams,
      ...publishParams,
      ...waitParams,
      runId: {
        type: 'string',
        pattern: '^[A-Za-z0-9._:/-]{1,200}$',
        description: 'Name of this run: a retry with the same one goes on at once.',
        'x-group': 'Publishing',
      },
      ...transferParams,
      ...networkParams,
    },
    ['modelId'],
  ),
  results: { ...syncResults, manifest: 'Key of the manifest in the store.' },
  async run(params, ctx) {
    const { modelId, revision, keyTemplate, controlPrefix, concurrency, allowPatterns, ignorePatterns, profile } = params;
    const store = openStore(params, ctx);
    const hub = hubOf(params, ctx);
    const info = await resolveRevision(hub, modelId, revision);
    const source = { repo: modelId, commit: info.commit };
    const selection = { allowPatterns, ignorePatterns, profile };
    const files = selectFiles(await listFiles(hub, modelId, info.commit), selection);
    checkPaths(files.map(({ path }) => path));
    const names = namesOf(source, params);
    const prefix = prefixOf(keyTemplate, source, names, controlPrefix);
    const uri = `${store.uri}/${prefix}/`;
    const model = { hub, source, selection, files, concurrency };
    const common = {
      store,
      log: ctx.log,
      signal: ctx.signal,
      content: hubContent(model),
      source: Buffer.from(sourceRecord(hub, modelId, revision, info)),
      prefix,
      controlPrefix,
      versionsPrefix: versionsPrefix(keyTemplate, source, names),
      replace: params.replace,
      rayHash: params.rayHash,
      concurrency,
    };
    if (ctx.dryRun) {
      const plan = await planPublish(common);
      ctx.print(showPlan(uri, plan, ctx.terminal));
      return nothing(info.commit);
    }
    const send = makeSender({
      store,
      open: async (file) => hubBytes(model, file),
      partSize: params.partSize,
      connections: new Budget(concurrency),
      sources: new Budget(concurrency),
      buffers: new BufferPool(bufferBytes(params.maxMemory)),
      progress: ctx.progress,
    });
    const { waitTimeout, runId = randomUUID() } = params;
    const outcome = await publish({ ...common, progress: ctx.progress, runId, waitTimeout, send });
    const sha256 = sha256Of(outcome.bytes);
    return {
      manifest: `${controlPrefix}/manifests/${prefix}.json`,
      'manifest-sha256': sha256,
      commit: outcome.manifest.source.commit,
      'file-count': String(outcome.manifest.files.length),
      'total-bytes': String(outcome.manifest.totalBytes),
      'model-uri': uri,
      'uploaded-bytes': String(outcome.uploadedBytes),
      'copied-bytes': String(outcome.copiedBytes),
      unchanged: String(outcome.unchanged),
      'model-ARTIFACT_URI': uri,
      'model-ARTIFACT_DIGEST': `sha256:${sha256}`,
    };
  },
});

/** What a dry run has to give: nothing was made. */
function nothing(commit: string) {
  const names = Object.keys(publishResults) as (keyof typeof publishResults)[];
  return { ...(Object.fromEntries(names.map((name) => [name, ''])) as Record<keyof typeof publishResults, string>), commit };
}
