import { kindOf, StepError } from '../errors.ts';
import type { Manifest } from '../manifest.ts';
import { checkKeys } from '../paths.ts';
import type { Named } from './content.ts';
import { type ControlKeys, type Published, readPublished } from './control.ts';
import { checkNesting, compareListing, type Inventory, rayHashName, takeInventory } from './inventory.ts';
import type { PublishOptions } from './options.ts';

/** Throws `refused` when the model can never be published there: a key too long, a file in the sidecar's place, another model above or inside. */
export async function checkPlace(
  { store, prefix, controlPrefix, content, rayHash }: Pick<PublishOptions, 'store' | 'prefix' | 'controlPrefix' | 'content' | 'rayHash'>,
  keys: ControlKeys,
): Promise<void> {
  checkKeys([...content.files.map((file) => `${prefix}/${file.path}`), keys.manifest]);
  if (rayHash && content.files.some((file) => file.path === rayHashName)) {
    throw new StepError('refused', `failed to add ${prefix}/${rayHashName}: the model has a file of that name`, {
      hint: 'leave --ray-hash out',
    });
  }
  await checkNesting(store, controlPrefix, prefix);
}

/** The manifest published under that key when it says the same; undefined when there is none, or it may be replaced. Throws `refused` when it says something else. */
export async function lookForManifest(
  { store, content, replace }: Pick<PublishOptions, 'store' | 'replace'> & { content: Pick<Named, 'isSame'> },
  key: string,
  uri: string,
): Promise<Published | undefined> {
  const published = await readPublished(store, key);
  if (published === undefined || (await content.isSame(published.manifest))) return published;
  if (replace) return undefined;
  const { repo, commit } = published.manifest.source;
  throw new StepError('refused', `failed to publish ${uri}: other content is published there (${repo} at ${commit})`, {
    hint: 'give another --model-version or --key-template, or --replace',
  });
}

/** The published manifest when it is ours already and all its objects are there; throws `refused` when it is another's. */
export async function look(
  options: Pick<PublishOptions, 'store' | 'prefix' | 'replace' | 'log'> & { content: Pick<Named, 'isSame'> },
  keys: ControlKeys,
): Promise<Published | undefined> {
  const { store, prefix, log } = options;
  const published = await lookForManifest(options, keys.manifest, `${store.uri}/${prefix}/`);
  if (published === undefined) return undefined;
  try {
    await compareListing(store, prefix, published.manifest.files, true);
    return published;
  } catch (error) {
    if (kindOf(error) !== 'integrity') throw error;
    log.warn({ prefix, error: String(error) }, 'the published model was damaged: publishing it again');
    return undefined;
  }
}

/** What lies under the prefix now, as takeInventory sorts it; `old` may be still asked for, `known` are paths that are ours besides those of it, `reports` more records of what is stored. */
export async function inventoryOf(
  options: Pick<PublishOptions, 'store' | 'prefix' | 'content' | 'rayHash' | 'concurrency'>,
  keys: ControlKeys,
  old: Published | undefined | Promise<Published | undefined>,
  known: readonly string[] = [],
  reports: readonly string[] = [],
): Promise<Inventory> {
  const { store, prefix, content, rayHash, concurrency } = options;
  const namedBy = (manifest: Manifest) => [...manifest.files.map((file) => file.path), rayHashName];
  const ours = Promise.resolve(old).then((there) => new Set([...known, ...(there ? namedBy(there.manifest) : [])]));
  return await takeInventory({
    store,
    prefix,
    files: content.files,
    known: ours,
    storedKeys: [keys.stored, ...reports],
    rayHash,
    concurrency,
  });
}

/** Throws `refused` naming what somebody else put there, unless it may be replaced. */
export function refuseForeign(
  { foreign }: Inventory,
  { store, prefix, replace }: Pick<PublishOptions, 'store' | 'prefix' | 'replace'>,
): void {
  if (foreign.length === 0 || replace) return;
  throw new StepError('refused', `failed to publish ${store.uri}/${prefix}/: objects lie there that are not ours: ${some(foreign)}`, {
    hint: 'move them away, choose another --key-template, or give --replace to overwrite and delete them',
  });
}

/** Foreign keys, but for those that are overwritten anyway and need no delete. */
export function extraForeign(inventory: Inventory, { prefix, content }: Pick<PublishOptions, 'prefix' | 'content'>): string[] {
  const own = new Set(content.files.map((file) => `${prefix}/${file.path}`));
  return inventory.foreign.filter((key) => !own.has(key));
}

/** The first few of many keys, for a message. */
export function some(keys: readonly string[]): string {
  return keys.slice(0, 5).join(', ') + (keys.length > 5 ? ` and ${keys.length - 5} more` : '');
}
