import { randomUUID } from 'node:crypto';
import type { StepContext } from '../../lib/define-step.ts';
import { StepError } from '../../lib/errors.ts';
import { hubOf } from '../../lib/hub/connection.ts';
import { hubBytes } from '../../lib/hub/content.ts';
import type { Expected } from '../../lib/integrity.ts';
import type { FileFault } from '../../lib/local/check.ts';
import { findAsked, notPublished } from '../../lib/publish/asked.ts';
import type { Found } from '../../lib/publish/catalog.ts';
import { checkPublished } from '../../lib/publish/check.ts';
import { contentOf } from '../../lib/publish/content.ts';
import { controlKeys } from '../../lib/publish/control.ts';
import { some } from '../../lib/publish/look.ts';
import { publish } from '../../lib/publish/publish.ts';
import { makeSender } from '../../lib/publish/send.ts';
import type { Store } from '../../lib/store.ts';
import { Budget } from '../../lib/transfer/budget.ts';
import { BufferPool, bufferBytes, sizeForAll } from '../../lib/transfer/buffers.ts';
import { localCopies } from './copies.ts';
import type { VerifyParams } from './params.ts';

/** The published model that is meant. Throws `not-found` when there is none. */
export async function publishedTarget(store: Store, params: VerifyParams, ctx: StepContext): Promise<Found> {
  const found = await findAsked(store, params, ctx.log);
  if (found) return found;
  throw await notPublished(store, params, 'verify');
}

/** All that is wrong with it, and how many bytes were read for that. */
export async function checkStore(
  store: Store,
  found: Found,
  params: VerifyParams,
  ctx: StepContext,
): Promise<{ faults: FileFault[]; readBytes: number }> {
  const { concurrency, partSize, maxMemory, deep, controlPrefix } = params;
  const buffers = new BufferPool(bufferBytes(maxMemory, concurrency));
  const parts = { connections: new Budget(concurrency), buffers, partSize: sizeForAll(partSize, buffers.total, concurrency) };
  return await checkPublished(found, { ...parts, ...ctx, store, controlPrefix, deep, concurrency });
}

/**
 * Publishes the model again at its place by the files that are wrong alone, from what is on this machine, else from the Hub. Meanwhile it does not
 * exist for anyone. Objects that others put there stay, and are `refused`. Throws `not-found`, before anything is changed, for files of a
 * compressed model that are not here: the Hub has none such.
 */
export async function repairStore(
  store: Store,
  { prefix, manifest }: Found,
  faults: readonly FileFault[],
  params: VerifyParams,
  ctx: StepContext,
): Promise<void> {
  const { controlPrefix, concurrency, partSize, maxMemory, waitTimeout } = params;
  const { repo, commit } = manifest.source;
  const wrong = manifest.files.filter(({ path }) => faults.some((fault) => fault.path === path));
  const copies = await localCopies(wrong, params, ctx);
  const { derived } = manifest;
  const lacking = wrong.filter(({ sha256 }) => !copies.has(sha256)).map(({ path }) => path);
  const notHere = (paths: readonly string[]) =>
    new StepError(
      'not-found',
      `failed to repair ${store.uri}/${prefix}/: the Hub has no model compressed by ${derived?.method}, and no folder here has ${some(paths)}`,
      {
        hint: `name the folder that has it with --workspace or --model-dir, or make it again: download ${repo} at ${commit}, then compress`,
      },
    );
  if (derived !== undefined && lacking.length > 0) throw notHere(lacking);
  const hub = hubOf(params, ctx);
  const open = async (file: Expected) => {
    const copy = copies.get(file.sha256 ?? '');
    if (copy !== undefined) return await copy();
    if (derived !== undefined) throw notHere([file.path]);
    return hubBytes({ hub, source: { repo, commit } }, file);
  };
  // What is wrong in a way that no listing shows must not be taken for right.
  await store.delete(faults.filter(({ fault }) => fault === 'checksum').map(({ path }) => `${prefix}/${path}`));
  const send = makeSender({
    store,
    open,
    partSize,
    connections: new Budget(concurrency),
    sources: new Budget(concurrency),
    buffers: new BufferPool(bufferBytes(maxMemory, concurrency)),
    progress: ctx.progress,
  });
  await publish({
    ...ctx,
    store,
    content: contentOf(manifest),
    source: (await store.get(controlKeys(controlPrefix, prefix).source))?.bytes,
    prefix,
    controlPrefix,
    versionsPrefix: undefined,
    runId: randomUUID(),
    replace: false,
    rayHash: false,
    waitTimeout,
    concurrency,
    send,
  });
}
