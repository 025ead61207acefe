import type { Expected } from '../integrity.ts';
import { allEnded } from '../transfer/pool.ts';
import { bring } from './bring.ts';
import type { Claim } from './claim.ts';
import { type ClaimedOptions, type PublishOutcome, publishClaimed, publishedBefore, type Target } from './claimed.ts';
import { type ControlKeys, controlKeys, readPublished } from './control.ts';
import { copiesFor } from './copies.ts';
import { checkPlace, extraForeign, inventoryOf, look, refuseForeign, some } from './look.ts';
import type { PublishOptions } from './options.ts';
import { seal } from './seal.ts';
import type { Uploads } from './uploads.ts';

export type { PublishOutcome } from './claimed.ts';
export type { PublishOptions, SendFile } from './options.ts';

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
  const keys = controlKeys(options.controlPrefix, options.prefix);
  return await publishClaimed(options, {
    ...targetOf(options),
    check: () => checkPlace(options, keys),
    work: (signal, claim, uploads) => bringAndPublish({ ...options, signal }, keys, claim, uploads),
  });
}

type LookOptions = Omit<ClaimedOptions, 'waitTimeout'> & Pick<PublishOptions, 'prefix' | 'controlPrefix' | 'replace'>;

/**
 * What publish would answer when there is nothing to do, and undefined when there is: its files are not asked for, as some
 * find out about them at a cost. Throws `refused` on a conflict.
 */
export async function findUnchanged(options: LookOptions): Promise<PublishOutcome | undefined> {
  return await publishedBefore(options, targetOf(options));
}

function targetOf(options: LookOptions): Omit<Target, 'work'> {
  const { store, prefix, controlPrefix } = options;
  const keys = controlKeys(controlPrefix, prefix);
  return { uri: `${store.uri}/${prefix}/`, keys, folder: prefix, look: () => look(options, keys) };
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
    copy: missing.filter((file) => copies.of(file)),
    send: missing.filter((file) => !copies.of(file)),
    delete: [...inventory.leftovers, ...(options.replace ? extraForeign(inventory, options) : [])],
  };
}

async function bringAndPublish(options: PublishOptions, keys: ControlKeys, claim: Claim, uploads: Uploads): Promise<PublishOutcome> {
  const { store, log, content, prefix } = options;
  const reading = readPublished(store, keys.manifest);
  const [inventory, old] = await allEnded([inventoryOf(options, keys, reading), reading]);
  refuseForeign(inventory, options);
  await options.inspect?.(options.signal);
  // From here until the new manifest stands, the model does not exist for anyone.
  if (old) await store.delete([keys.manifest], { etag: old.info.etag });
  const { brought, uploadedBytes, copiedBytes } = await bring(options, content.files, inventory.right, uploads);
  const sealed = await seal(options, keys, claim, inventory, brought);
  log.info({ uri: `${store.uri}/${prefix}/`, uploadedBytes, copiedBytes }, 'published');
  return { ...sealed, uploadedBytes, copiedBytes, unchanged: false };
}
