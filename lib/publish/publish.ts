import { kindOf } from '../errors.ts';
import type { Expected } from '../integrity.ts';
import type { Log } from '../log.ts';
import type { Manifest } from '../manifest.ts';
import { bring } from './bring.ts';
import { Claim } from './claim.ts';
import { type ControlKeys, controlKeys, type Published, readPublished } from './control.ts';
import { copiesFor } from './copies.ts';
import { clearLeftovers } from './leftovers.ts';
import { checkPlace, extraForeign, inventoryOf, look, refuseForeign, some } from './look.ts';
import type { PublishOptions } from './options.ts';
import { seal } from './seal.ts';
import { Uploads } from './uploads.ts';

export type { PublishOptions, SendFile } from './options.ts';

export interface PublishOutcome {
  /** What is published now: of another run when `unchanged`. */
  manifest: Manifest;
  /** The published manifest's bytes. */
  bytes: Buffer;
  uploadedBytes: number;
  copiedBytes: number;
  unchanged: boolean;
}

/** What publishing would do, found without writing anything. */
export interface PublishPlan {
  unchanged: boolean;
  conflict: string | undefined;
  right: Expected[];
  copy: Expected[];
  send: Expected[];
  delete: string[];
}

/**
 * Publishes a model under a prefix: a reader who finds its manifest finds every byte that it names, and a kill at any point leaves
 * the old state or no manifest. Throws `refused` on a conflict, `integrity` when bytes are not those of the manifest.
 */
export async function publish(options: PublishOptions): Promise<PublishOutcome> {
  const { store, log, prefix, controlPrefix, content } = options;
  const keys = controlKeys(controlPrefix, prefix);
  await checkPlace(options, keys);
  const done = await look(options, keys);
  if (done) {
    await clearLeftovers(options, keys);
    return unchanged(done, log, `${store.uri}/${prefix}/`);
  }
  const { conditionalWrites } = await store.probe(keys.probe);
  if (!conditionalWrites)
    log.warn({ store: store.uri }, 'this store has no conditional writes: let only one run at a time publish a model');
  const claim = await Claim.take({
    store,
    key: keys.claim,
    runId: options.runId,
    contentDigest: content.digest,
    waitTimeout: options.waitTimeout,
    signal: options.signal,
    log,
    done: async () => (await look(options, keys)) !== undefined,
    ...(options.claimTiming ? { timing: options.claimTiming } : {}),
  });
  if (claim === undefined) return unchanged((await look(options, keys)) as Published, log, `${store.uri}/${prefix}/`);
  return await publishClaimed(options, keys, claim);
}

/** The same as publish would do, told without writing. */
export async function planPublish(options: Omit<PublishOptions, 'send' | 'progress' | 'runId' | 'waitTimeout'>): Promise<PublishPlan> {
  const { store, content, prefix, controlPrefix } = options;
  const { files } = content;
  const keys = controlKeys(controlPrefix, prefix);
  const published = await readPublished(store, keys.manifest);
  const empty = { right: [], copy: [], send: [], delete: [] };
  if (published && (await content.isSame(published.manifest))) {
    return { ...empty, unchanged: true, conflict: undefined, right: [...files] };
  }
  const inventory = await inventoryOf(options, keys, published);
  const missing = files.filter((file) => !inventory.right.has(file.path));
  const copies = await copiesFor(options, missing);
  const conflict = published
    ? 'another model is published there'
    : inventory.foreign.length > 0
      ? `foreign objects lie there: ${some(inventory.foreign)}`
      : undefined;
  return {
    unchanged: false,
    conflict: options.replace ? undefined : conflict,
    right: files.filter((file) => inventory.right.has(file.path)),
    copy: missing.filter((file) => copies.has(file.sha256 ?? '')),
    send: missing.filter((file) => !copies.has(file.sha256 ?? '')),
    delete: [...inventory.leftovers, ...(options.replace ? extraForeign(inventory, options) : [])],
  };
}

function unchanged(published: Published, log: Log, uri: string): PublishOutcome {
  log.info({ uri }, 'already published, nothing to do');
  return { manifest: published.manifest, bytes: published.bytes, uploadedBytes: 0, copiedBytes: 0, unchanged: true };
}

async function publishClaimed(options: PublishOptions, keys: ControlKeys, claim: Claim): Promise<PublishOutcome> {
  const { store, log } = options;
  const signal = AbortSignal.any([options.signal, claim.signal]);
  const uploads = new Uploads(store, claim, log);
  try {
    // Another run may have published between the look and the claim.
    const done = await look(options, keys);
    if (done) {
      await uploads.abandon(options.prefix);
      await claim.drop();
      return unchanged(done, log, `${store.uri}/${options.prefix}/`);
    }
    const outcome = await bringAndPublish({ ...options, signal }, keys, claim, uploads);
    await claim.drop();
    return outcome;
  } catch (error) {
    const reason = signal.aborted ? signal.reason : error;
    const resumable = ['transient', 'terminated', 'bug'].includes(kindOf(reason));
    if (resumable) await claim.release();
    else {
      await uploads.abandon(options.prefix);
      await claim.drop();
    }
    throw reason;
  }
}

async function bringAndPublish(options: PublishOptions, keys: ControlKeys, claim: Claim, uploads: Uploads): Promise<PublishOutcome> {
  const { store, log, content, prefix } = options;
  const old = await readPublished(store, keys.manifest);
  const inventory = await inventoryOf(options, keys, old);
  refuseForeign(inventory, options);
  await options.inspect?.(options.signal);
  // From here until the new manifest stands, the model does not exist for anyone.
  if (old) await store.delete([keys.manifest], { etag: old.info.etag });
  const { brought, uploadedBytes, copiedBytes } = await bring(options, content.files, inventory.right, uploads);
  const sealed = await seal(options, keys, claim, inventory, brought);
  log.info({ uri: `${store.uri}/${prefix}/`, uploadedBytes, copiedBytes }, 'published');
  return { ...sealed, uploadedBytes, copiedBytes, unchanged: false };
}
