import { StepError } from '../errors.ts';
import type { Expected } from '../integrity.ts';
import { parents } from '../paths.ts';
import type { ObjectInfo, Store } from '../store.ts';
import { allEnded, mapLimited } from '../transfer/pool.ts';
import { controlKeys, prefixOfManifest, readStored } from './control.ts';
import { settledListing } from './listing.ts';

/** Our marks on every model object: the sha256 of its bytes where it was known before the first of them was sent, else the Hub's git sha1 or the recipe. */
const digestMark = 'modelferry-sha256';
const gitMark = 'modelferry-git-sha1';
const recipeMark = 'modelferry-recipe';

/** The metadata of a file's object. */
export function marksOf({ gitSha1, recipe }: Expected, sha256: string | undefined): Record<string, string> {
  return {
    ...(sha256 === undefined ? {} : { [digestMark]: sha256 }),
    ...(gitSha1 === undefined ? {} : { [gitMark]: gitSha1 }),
    ...(recipe === undefined ? {} : { [recipeMark]: recipe }),
  };
}

/**
 * The sha256 of an object that was made for exactly this file; undefined when it is another's, or cannot be known. `known` is the digest that bytes
 * made by the file's recipe have, where they were made before.
 */
export function rightSha256(file: Expected, found: ObjectInfo, known?: string): string | undefined {
  const { [digestMark]: marked, [gitMark]: gitSha1, [recipeMark]: recipe } = found.metadata ?? {};
  const sha256 = marked ?? (recipe === undefined ? undefined : known);
  return found.size === file.size && sha256 !== undefined && isFile(file, { sha256, gitSha1, recipe }) ? sha256 : undefined;
}

/** Whether an object bears our marks: its metadata must have been asked for. */
export function isOurs({ metadata }: ObjectInfo): boolean {
  return (metadata?.[digestMark] ?? metadata?.[gitMark] ?? metadata?.[recipeMark]) !== undefined;
}

/** True when these digests are what the file must have, by the one that is known of it beforehand. */
export function isFile(file: Expected, digests: Pick<Expected, 'gitSha1' | 'recipe'> & { sha256: string }): boolean {
  const known = (['sha256', 'gitSha1', 'recipe'] as const).find((name) => file[name] !== undefined);
  return known !== undefined && file[known] === digests[known];
}

/** The one sidecar that may lie beside a model: Ray LLM reads the commit from it. */
export const rayHashName = 'hash';

/** Throws `refused` when a published model lies above or inside the prefix: a server of the one would read the other. */
export async function checkNesting(store: Store, controlPrefix: string, prefix: string): Promise<void> {
  const conflict = (other: string) =>
    new StepError('refused', `failed to use ${store.uri}/${prefix}/: ${store.uri}/${other}/ is published, and one would lie in the other`, {
      hint: 'choose another --key-template',
    });
  const published = async (above: string) => ((await store.head(controlKeys(controlPrefix, above).manifest)) ? above : undefined);
  const inside = async () => {
    for await (const { key } of store.list(`${controlPrefix}/manifests/${prefix}/`)) {
      const other = prefixOfManifest(controlPrefix, key);
      if (other !== undefined) return other;
    }
    return undefined;
  };
  // Side by side: what one of them costs in a store that is far is a round trip.
  const found = await allEnded([...parents(prefix).map(published), inside()]);
  for (const other of found) if (other !== undefined) throw conflict(other);
}

/** A file that is in the store. */
export interface Brought {
  info: ObjectInfo;
  sha256: string;
}

export interface Inventory {
  /** Files that are right already, by path. */
  right: Map<string, Brought>;
  /** Keys of ours that belong to no file of the manifest. */
  leftovers: string[];
  /** Keys that somebody else put there. */
  foreign: string[];
}

export interface InventoryOptions {
  store: Store;
  prefix: string;
  files: readonly Expected[];
  /** Paths that earlier manifests of this prefix named: ours, whatever their metadata says. May be still asked for. */
  known: ReadonlySet<string> | Promise<ReadonlySet<string>>;
  /** Records of what is stored; what a later one says counts. */
  storedKeys: readonly string[];
  rayHash: boolean;
  concurrency: number;
  /** Leaves out of sight what belongs to no file: others bring their files to the same prefix. */
  filesOnly?: boolean;
}

/** Sorts what lies under the prefix now: right already, ours to delete, foreign. A file is right when its sha256 is known for that very object. */
export async function takeInventory({
  store,
  prefix,
  files,
  known,
  storedKeys,
  rayHash,
  concurrency,
  filesOnly = false,
}: InventoryOptions): Promise<Inventory> {
  const start = `${prefix}/`;
  const wanted = new Map(files.map((file) => [file.path, file]));
  const list = async () => {
    const objects: ObjectInfo[] = [];
    for await (const object of store.list(start)) if (!filesOnly || wanted.has(object.key.slice(start.length))) objects.push(object);
    return objects;
  };
  const [objects, named] = await allEnded([list(), known]);
  const inventory: Inventory = { right: new Map(), leftovers: [], foreign: [] };
  if (objects.length === 0) return inventory;
  const stored = new Map((await Promise.all(storedKeys.map((key) => readStored(store, key)))).flatMap((files) => [...files]));
  await mapLimited(objects, concurrency, async (object) => {
    const path = object.key.slice(start.length);
    // Consoles make an empty object to show a folder; servers skip it (field: KServe skips zero-size keys that end with "/").
    if (path === '' && object.size === 0) return;
    const file = wanted.get(path);
    const record = stored.get(path);
    if (file && record?.etag === object.etag && object.size === file.size && isFile(file, record)) {
      inventory.right.set(path, { info: object, sha256: record.sha256 });
      return;
    }
    const head = await store.head(object.key);
    if (head === undefined) return;
    const sha256 = file && rightSha256(file, head, record && isFile(file, record) ? record.sha256 : undefined);
    if (sha256 !== undefined) inventory.right.set(path, { info: head, sha256 });
    else if (isOurs(head) || named.has(path)) {
      if (!file && !(rayHash && path === rayHashName)) inventory.leftovers.push(object.key);
    } else inventory.foreign.push(object.key);
  });
  inventory.leftovers.sort();
  inventory.foreign.sort();
  return inventory;
}

/** Throws `integrity` unless exactly the manifest's files lie under the prefix, with their sizes, and as settledListing. Returns them by path. */
export async function compareListing(
  store: Store,
  prefix: string,
  files: readonly Expected[],
  rayHash: boolean,
): Promise<Map<string, ObjectInfo>> {
  const start = `${prefix}/`;
  const listed = await settledListing(store, prefix, files);
  if (listed.get('')?.size === 0) listed.delete('');
  if (rayHash) listed.delete(rayHashName);
  const faults = files.flatMap(({ path, size }) => {
    const found = listed.get(path);
    if (found === undefined) return [`${path} is missing`];
    return found.size === size ? [] : [`${path} has ${found.size} bytes, expected ${size}`];
  });
  const wanted = new Set(files.map((file) => file.path));
  for (const path of listed.keys()) if (!wanted.has(path)) faults.push(`${path} does not belong there`);
  if (faults.length > 0) {
    const more = faults.length > 10 ? ` and ${faults.length - 10} more` : '';
    throw new StepError('integrity', `failed to verify ${store.uri}/${start}: ${faults.slice(0, 10).join(', ')}${more}`, {
      hint: 'somebody else writes there; run it again when they are done',
    });
  }
  return listed;
}
