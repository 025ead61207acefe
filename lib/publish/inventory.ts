import { StepError } from '../errors.ts';
import type { Manifest, ManifestFile } from '../manifest.ts';
import { parents } from '../paths.ts';
import type { ObjectInfo, Store } from '../store.ts';
import { mapLimited } from '../transfer/pool.ts';
import { controlKeys, prefixOfManifest, readPublished, readStored } from './control.ts';

/** Our mark on every model object: the sha256 of its bytes, known before the first of them was sent. */
export const digestKey = 'modelferry-sha256';
/** The one sidecar that may lie beside a model: Ray LLM reads the commit from it. */
export const rayHashName = 'hash';

/** Throws `refused` when a published model lies above or inside the prefix: a server of the one would read the other. */
export async function checkNesting(store: Store, controlPrefix: string, prefix: string): Promise<void> {
  const conflict = (other: string) =>
    new StepError(
      'refused',
      `failed to publish ${store.uri}/${prefix}/: ${store.uri}/${other}/ is published, and one would lie in the other`,
      {
        hint: 'choose another --key-template',
      },
    );
  for (const above of parents(prefix)) {
    if (await store.head(controlKeys(controlPrefix, above).manifest)) throw conflict(above);
  }
  for await (const { key } of store.list(`${controlPrefix}/manifests/${prefix}/`)) {
    const inside = prefixOfManifest(controlPrefix, key);
    if (inside !== undefined) throw conflict(inside);
  }
}

export interface Inventory {
  /** Files that are right already, by path. */
  right: Map<string, ObjectInfo>;
  /** Keys of ours that belong to no file of the manifest. */
  leftovers: string[];
  /** Keys that somebody else put there. */
  foreign: string[];
}

export interface InventoryOptions {
  store: Store;
  prefix: string;
  manifest: Manifest;
  /** Paths that earlier manifests of this prefix named: ours, whatever their metadata says. */
  known: ReadonlySet<string>;
  storedKey: string;
  rayHash: boolean;
  concurrency: number;
}

/** Sorts what lies under the prefix now: right already, ours to delete, foreign. A file is right when its sha256 is known for that very object. */
export async function takeInventory({
  store,
  prefix,
  manifest,
  known,
  storedKey,
  rayHash,
  concurrency,
}: InventoryOptions): Promise<Inventory> {
  const start = `${prefix}/`;
  const objects: ObjectInfo[] = [];
  for await (const object of store.list(start)) objects.push(object);
  const inventory: Inventory = { right: new Map(), leftovers: [], foreign: [] };
  if (objects.length === 0) return inventory;
  const files = new Map(manifest.files.map((file) => [file.path, file]));
  const stored = await readStored(store, storedKey);
  await mapLimited(objects, concurrency, async (object) => {
    const path = object.key.slice(start.length);
    // Consoles make an empty object to show a folder; servers skip it (field: KServe skips zero-size keys that end with "/").
    if (path === '' && object.size === 0) return;
    const file = files.get(path);
    const record = stored.get(path);
    if (file && record?.etag === object.etag && record.sha256 === file.sha256 && object.size === file.size) {
      inventory.right.set(path, object);
      return;
    }
    const head = await store.head(object.key);
    if (head === undefined) return;
    const digest = head.metadata?.[digestKey];
    if (file && digest === file.sha256 && head.size === file.size) inventory.right.set(path, head);
    else if (digest !== undefined || known.has(path)) {
      if (!file && !(rayHash && path === rayHashName)) inventory.leftovers.push(object.key);
    } else inventory.foreign.push(object.key);
  });
  inventory.leftovers.sort();
  inventory.foreign.sort();
  return inventory;
}

/** How many of the newest other versions are looked into for files to copy. */
const maxSiblings = 20;

/**
 * Files that other published versions of this model have, by sha256, where a server-side copy saves sending them.
 * `under` is the part of the prefix that all versions share.
 */
export async function findCopies(
  store: Store,
  controlPrefix: string,
  under: string,
  prefix: string,
  wanted: readonly ManifestFile[],
): Promise<Map<string, ObjectInfo>> {
  const copies = new Map<string, ObjectInfo>();
  const missing = new Map(wanted.map((file) => [file.sha256, file.size]));
  const siblings: { prefix: string; at: number }[] = [];
  for await (const { key, lastModified } of store.list(`${controlPrefix}/manifests/${under}`)) {
    const other = prefixOfManifest(controlPrefix, key);
    if (other !== undefined && other !== prefix) siblings.push({ prefix: other, at: lastModified.getTime() });
  }
  siblings.sort((a, b) => b.at - a.at);
  for (const sibling of siblings.slice(0, maxSiblings)) {
    if (missing.size === 0) break;
    const keys = controlKeys(controlPrefix, sibling.prefix);
    const published = await readPublished(store, keys.manifest).catch(() => undefined);
    const shared = published?.manifest.files.filter((file) => missing.has(file.sha256)) ?? [];
    if (shared.length === 0) continue;
    const stored = await readStored(store, keys.stored);
    for (const file of shared) {
      const record = stored.get(file.path);
      if (record === undefined || record.sha256 !== file.sha256 || missing.get(file.sha256) !== record.size) continue;
      copies.set(file.sha256, { key: `${sibling.prefix}/${file.path}`, size: record.size, etag: record.etag, lastModified: new Date(0) });
      missing.delete(file.sha256);
    }
  }
  return copies;
}

/** Throws `integrity` unless exactly the manifest's files lie under the prefix, with their sizes. Returns them by path. */
export async function compareListing(store: Store, prefix: string, manifest: Manifest, rayHash: boolean): Promise<Map<string, ObjectInfo>> {
  const start = `${prefix}/`;
  const listed = new Map<string, ObjectInfo>();
  for await (const object of store.list(start)) {
    const path = object.key.slice(start.length);
    if (!(path === '' && object.size === 0) && !(rayHash && path === rayHashName)) listed.set(path, object);
  }
  const faults = manifest.files.flatMap(({ path, size }) => {
    const found = listed.get(path);
    if (found === undefined) return [`${path} is missing`];
    return found.size === size ? [] : [`${path} has ${found.size} bytes, expected ${size}`];
  });
  const wanted = new Set(manifest.files.map((file) => file.path));
  for (const path of listed.keys()) if (!wanted.has(path)) faults.push(`${path} does not belong there`);
  if (faults.length > 0) {
    const more = faults.length > 10 ? ` and ${faults.length - 10} more` : '';
    throw new StepError('integrity', `failed to verify ${store.uri}/${start}: ${faults.slice(0, 10).join(', ')}${more}`, {
      hint: 'somebody else writes there; run it again when they are done',
    });
  }
  return listed;
}
