import { randomUUID } from 'node:crypto';
import { isDerivation } from '../../lib/compression/derivation.ts';
import { sharesOf } from '../../lib/compression/memory.ts';
import { derivedFrom, type NewModel, newModelOf } from '../../lib/compression/new-model.ts';
import { planModel } from '../../lib/compression/plan.ts';
import { type MakingOptions, makingSender } from '../../lib/compression/sender.ts';
import type { ErrorsByModule } from '../../lib/compression/shard-run.ts';
import { readSourceModel } from '../../lib/compression/source-model.ts';
import { type Given, type Quantization, quantizationOf } from '../../lib/compression/wanted.ts';
import { writeReport } from '../../lib/compression/write-report.ts';
import type { StepContext } from '../../lib/define-step.ts';
import { StepError } from '../../lib/errors.ts';
import { checkFolderToBe } from '../../lib/folders.ts';
import { hubBytes, hubManifest, isOfSource } from '../../lib/hub/content.ts';
import { type Ends, findTarget, type TargetParams } from '../../lib/hub/target.ts';
import { sha256Of } from '../../lib/integrity.ts';
import { checkServing } from '../../lib/lint/gate.ts';
import { lintModel, lintProfileOf } from '../../lib/lint/lint.ts';
import { type Manifest, type ManifestFile, manifestBytes } from '../../lib/manifest.ts';
import { archiveMethod } from '../../lib/methods.ts';
import type { GroupValues } from '../../lib/params/declare.ts';
import type { reportParams } from '../../lib/params/groups/compression.ts';
import type { lintParams } from '../../lib/params/groups/publishing.ts';
import type { runParams, waitParams } from '../../lib/params/groups/runs.ts';
import type { transferParams } from '../../lib/params/groups/transfer.ts';
import { checkContent } from '../../lib/policy/policy.ts';
import { Seen } from '../../lib/policy/seen.ts';
import { controlKeys } from '../../lib/publish/control.ts';
import { cutting } from '../../lib/publish/part-size.ts';
import { showPlan } from '../../lib/publish/plan.ts';
import { findUnchanged, type PublishOutcome, planPublish, publish } from '../../lib/publish/publish.ts';
import type { ByteSource } from '../../lib/publish/send.ts';
import { Budget } from '../../lib/transfer/budget.ts';
import { ReadAhead } from '../../lib/transfer/read-ahead.ts';

export type QuantizedParams = TargetParams &
  GroupValues<typeof runParams> &
  GroupValues<typeof lintParams> &
  GroupValues<typeof reportParams> &
  GroupValues<typeof waitParams> &
  GroupValues<typeof transferParams>;

/** What was asked for. Throws `usage` where it cannot be done while the model streams. */
export function quantizationOnTheWay(given: Omit<Given, 'method'> & { method: Given['method'] | typeof archiveMethod }): Quantization {
  const refuse = (why: string) =>
    new StepError('usage', `failed to use --method ${given.method}: ${why}`, {
      hint: 'make it in a workspace: download, compress and upload',
    });
  const { method } = given;
  if (method === archiveMethod) throw refuse('its size is known only when it is packed');
  const wanted = quantizationOf({ ...given, method });
  if (wanted.wanted.scheme.scale === 'e4m3') throw refuse('the scale of a whole tensor is known only when all of it was read');
  return wanted;
}

/** Bytes that are asked for at once, in a file that is read from its start to its end. */
const rangeSize = 4 * 1024 ** 2;

export interface Synced {
  uri: string;
  /** Key of the manifest in the store. */
  manifest: string;
  commit: string;
  /** Undefined for a dry run. */
  outcome: PublishOutcome | undefined;
}

/**
 * Brings a model from the Hub into the store and quantizes it on the way: rows become smaller between the two connections, and nothing is on a disk. What is
 * published is what download, compress and upload publish, manifest byte for byte. Throws as they do.
 */
export async function syncQuantized(
  params: QuantizedParams,
  modelId: string,
  wanted: Quantization,
  ends: Ends,
  ctx: StepContext,
): Promise<Synced> {
  const { concurrency, partSize, maxMemory, waitTimeout, reportDir, runId = randomUUID() } = params;
  const { log, progress, signal } = ctx;
  const { store } = ends;
  if (reportDir !== undefined) await checkFolderToBe('--report-dir', reportDir);
  const noReport = (why: string) => {
    if (reportDir !== undefined) log.warn({ reportDir }, `there is no report: ${why}`);
  };
  const { info, uri, model: onHub, place } = await findTarget(params, modelId, ends, wanted.method);
  const { source, selection } = onHub;
  const keys = controlKeys(place.controlPrefix, place.prefix);
  const synced = { uri, manifest: keys.manifest, commit: source.commit };
  // A commit names its bytes, and they, the method and its config name those of the new model: nothing has to be read to know it again.
  const content = {
    digest: sha256Of(JSON.stringify([source, selection, wanted.method, wanted.config])),
    isSame: async (published: Manifest) => isOfSource(published, source, selection) && isDerivation(published, wanted),
  };
  const before = ctx.dryRun ? undefined : await findUnchanged({ ...place, content, runId });
  if (before) {
    noReport('the model was published before');
    return { ...synced, outcome: before };
  }

  const manifest = await hubManifest(onHub);
  const open = async (file: ManifestFile) => hubBytes(onHub, file);
  const hint = 'run it again; if it stays so, try another --hub-url';
  const model = await readSourceModel({ open, hint }, manifest, signal);
  const plan = planModel(model, wanted.wanted);
  const newModel = await newModelOf(plan, model, manifest, derivedFrom(wanted, manifestBytes(manifest)));
  const shares = sharesOf(plan, { partSize, maxMemory, minPart: store.limits.minPart, readsAhead: true });
  const common = { ...place, content: newModel.content };
  const byPath = new Map(model.others.map((file) => [file.path, file]));
  const findings = () =>
    lintModel(newModel.content.files, lintProfileOf({ selection }), async ({ path, size }) => {
      return newModel.small.get(path) ?? (await readWhole(await open(byPath.get(path) as ManifestFile), size, signal));
    });
  const mayServe = () => checkServing(findings, { ...params, uri, log });
  if (ctx.dryRun) {
    const published = await planPublish(common);
    const cut = cutting(shares.part, shares.buffers, concurrency);
    ctx.print(showPlan(uri, { ...published, source, terms: info, cut, limits: store.limits }, ctx.terminal));
    if (!published.unchanged) await mayServe();
    return { ...synced, outcome: undefined };
  }
  const { quantized, left } = plan.selected;
  log.info(
    { ...source, method: wanted.method, quantized: quantized.size, left: left.size, bytes: manifest.totalBytes },
    'compress on the way',
  );
  if (model.dropped.length > 0) log.warn({ files: model.dropped }, 'weights in other formats are not kept');
  const sender = senderOf(newModel, { open, hint, shares, concurrency, progress, store, storedKey: keys.stored });
  const { seen, errors } = sender;
  const lookInto = (path: string) => open(byPath.get(path) as ManifestFile);
  const inspect = async (ended: AbortSignal) => {
    await mayServe();
    await checkContent({ policy: params, files: model.others, open: lookInto, seen, concurrency, signal: ended, log });
  };
  try {
    const outcome = await publish({ ...common, progress, runId, waitTimeout, inspect, send: sender.send });
    const all = plan.shards.flatMap(({ shard }) => errors.get(shard.path) ?? []);
    if (errors.size < plan.shards.length) noReport('another run made a part of the model');
    else if (reportDir !== undefined) await writeReport(reportDir, plan, model, [all], manifest, outcome.manifest);
    return { ...synced, outcome };
  } finally {
    await sender.close();
  }
}

/** Sends the files of a model whose weights become smaller on their way. To be closed at the end. */
function senderOf(
  newModel: NewModel,
  {
    open,
    hint,
    ...options
  }: Pick<MakingOptions, 'open' | 'shares' | 'concurrency' | 'progress' | 'store' | 'storedKey'> & { hint: string },
) {
  const { shares, concurrency } = options;
  const connections = new Budget(concurrency);
  const seen = new Seen();
  const errors = new Map<string, ErrorsByModule>();
  const { send, close } = makingSender(newModel, {
    ...options,
    shards: {
      open: async (file) => new ReadAhead(await open(file), { size: file.size, rangeSize, memory: shares.readAhead, connections }),
      hint,
    },
    open: async (file) => limited(seen.compare(file.path, await open(file)), connections),
    reads: concurrency,
    onMade: async (path, found) => {
      errors.set(path, found);
    },
  });
  return {
    send,
    close,
    /** Compares the files that stay as they are with what was seen of them when they were judged. */
    seen,
    /** What the weights lost, by the shards that this run made. */
    errors,
  };
}

async function readWhole(source: ByteSource, size: number, signal: AbortSignal): Promise<Buffer> {
  const bytes = Buffer.alloc(size);
  if (size > 0) await source.read(0, bytes, signal);
  await source.close();
  return bytes;
}

/** Reads that share their connections with others. */
function limited(source: ByteSource, connections: Budget): ByteSource {
  return {
    async read(offset, into, signal) {
      const leave = await connections.take(1, signal);
      try {
        await source.read(offset, into, signal);
      } finally {
        leave();
      }
    },
    close: () => source.close(),
  };
}
