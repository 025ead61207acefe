import type { StepContext } from '../../lib/define-step.ts';
import { StepError } from '../../lib/errors.ts';
import { openPlan } from '../../lib/fanout/open.ts';
import { filesOf } from '../../lib/fanout/record.ts';
import { bringShard, hasShard, isPublished, shardFiles } from '../../lib/fanout/shard.ts';
import type { Hub } from '../../lib/hub/connection.ts';
import { type HubModel, hubContent, openerOf } from '../../lib/hub/content.ts';
import type { publishResults } from '../../lib/params/results.ts';
import { checkContent, type Policy } from '../../lib/policy/policy.ts';
import { Seen } from '../../lib/policy/seen.ts';
import { sizeOf } from '../../lib/publish/bring.ts';
import { prefixesToCopyFrom } from '../../lib/publish/copies.ts';
import type { SendFile } from '../../lib/publish/publish.ts';
import type { Store } from '../../lib/store.ts';
import { showBytes } from '../../lib/units.ts';

type PublishResults = Record<keyof typeof publishResults, string>;

export interface SyncShardOptions {
  store: Store;
  hub: Hub;
  controlPrefix: string;
  plan: string;
  planSha256?: string | undefined;
  shard: string;
  modelId?: string | undefined;
  concurrency: number;
  waitTimeout: number;
  copyFrom: readonly string[];
  allowUnsafe: Policy['allowUnsafe'];
  sender: (model: HubModel, seen: Seen) => SendFile;
}

/** One pod of many: brings a shard's files, and publishes nothing. What it says of a published model is empty: there is none yet. */
export async function syncShard(options: SyncShardOptions, ctx: StepContext): Promise<PublishResults> {
  const { store, hub, shard, concurrency, controlPrefix, waitTimeout, modelId } = options;
  const { log, signal } = ctx;
  const opened = await openPlan({ ...options, log, signal });
  const uri = `${store.uri}/${opened.place.prefix}/`;
  // A plan that found the work done has one shard of its own; the record of one that was killed before it stood may lie there still.
  const done = 'published' in opened || (!hasShard(opened.read, shard) && (await isPublished({ store, log, controlPrefix }, opened.read)));
  if (done) {
    log.info({ uri, shard }, 'already published, nothing to do');
    return results({ commit: opened.place.commit, uri, files: 0, bytes: 0, uploadedBytes: 0, copiedBytes: 0, unchanged: true });
  }
  const { read } = opened;
  const { source, selection } = read.plan;
  if (modelId !== undefined && modelId !== source.repo) {
    throw new StepError('usage', `failed to use --model-id ${modelId}: the plan is about ${source.repo}`);
  }
  const files = shardFiles(read, shard);
  const sums = { commit: source.commit, uri, files: files.length, bytes: sizeOf(files) };
  if (ctx.dryRun) {
    const { files: count, bytes } = sums;
    const text = `shard ${shard} of ${uri}: ${count} files, ${showBytes(bytes)}`;
    ctx.print(`${ctx.terminal ? text : JSON.stringify({ uri, shard, files: count, bytes })}\n`);
    return results({ ...sums, uploadedBytes: 0, copiedBytes: 0, unchanged: false });
  }
  const model = { hub, source, selection, files: filesOf(read.plan), concurrency };
  const seen = new Seen();
  // Whether the licence may be taken, plan has judged: the card lies in the same commit. Its look into pickles saw bytes that nobody keeps.
  const policy = { allowUnsafe: read.plan.allowUnsafe ?? options.allowUnsafe, allowLicenses: [], denyLicenses: [], requireLicense: false };
  const outcome = await bringShard({
    store,
    log,
    signal,
    progress: ctx.progress,
    read,
    shard,
    content: hubContent(model),
    controlPrefix,
    waitTimeout,
    concurrency,
    copyFrom: [...new Set([...prefixesToCopyFrom(store, options.copyFrom), ...(read.plan.copyFrom ?? [])])],
    inspect: (ended) => checkContent({ policy, files, open: openerOf(model), seen, concurrency, signal: ended, log }),
    send: options.sender(model, seen),
  });
  return results({ ...sums, ...outcome, files: files.length });
}

interface Sums {
  commit: string;
  uri: string;
  files: number;
  bytes: number;
  uploadedBytes: number;
  copiedBytes: number;
  unchanged: boolean;
}

function results({ commit, uri, files, bytes, uploadedBytes, copiedBytes, unchanged }: Sums): PublishResults {
  return {
    manifest: '',
    'manifest-sha256': '',
    commit,
    'file-count': String(files),
    'total-bytes': String(bytes),
    'model-uri': uri,
    'uploaded-bytes': String(uploadedBytes),
    'copied-bytes': String(copiedBytes),
    unchanged: String(unchanged),
    'model-ARTIFACT_URI': '',
    'model-ARTIFACT_DIGEST': '',
  };
}
