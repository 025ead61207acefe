import { StepError } from '../errors.ts';
import type { Expected } from '../integrity.ts';
import type { ObjectInfo, Store } from '../store.ts';
import { controlKeys, prefixOfManifest, readPublished, readStored } from './control.ts';
import type { PublishOptions } from './options.ts';

/** How many of the newest other versions are looked into for files to copy. */
const maxSiblings = 20;
const sha256Digits = 64;

/** The prefixes that --copy-from names, as model URIs of this store or as plain prefixes. Throws one `usage` error that lists every fault. */
export function prefixesToCopyFrom({ uri }: Pick<Store, 'uri'>, words: readonly string[]): string[] {
  const faults: string[] = [];
  const prefixes = words.map((word) => {
    const inside = word.startsWith(`${uri}/`) ? word.slice(uri.length + 1) : word;
    const prefix = inside.replace(/^\/+|\/+$/g, '');
    if (/^[a-z0-9+.-]+:\/\//i.test(inside)) faults.push(`${word} is not in ${uri}/`);
    else if (prefix === '') faults.push(`${JSON.stringify(word)} names no prefix`);
    return prefix;
  });
  if (faults.length > 0) {
    throw new StepError('usage', `failed to use --copy-from: ${faults.join('; ')}`, {
      hint: `give model URIs such as ${uri}/model-data/name/1.0/, or prefixes in the same store`,
    });
  }
  return prefixes;
}

/** An object with the bytes of a file. */
export interface Twin {
  info: ObjectInfo;
  sha256: string;
}

/** Objects with the bytes of files, wherever they lie. */
export class Twins {
  /** By what names a file's bytes beforehand. */
  readonly #byDigest = new Map<string, Twin>();

  of(file: Expected): Twin | undefined {
    return this.#byDigest.get(bytesName(file) ?? '');
  }

  add(name: string, twin: Twin): void {
    this.#byDigest.set(name, twin);
  }
}

/** The sha256, else the git sha1, which is all that the Hub tells of files that git itself holds. */
function bytesName({ sha256, gitSha1 }: Pick<Expected, 'sha256' | 'gitSha1'>): string | undefined {
  return sha256 ?? gitSha1;
}

/** What is looked for: sizes by what names the bytes. */
type Wanted = Map<string, number>;

/**
 * Those of the missing files that lie in another published model of this store, where a copy saves sending them: first in those at or below
 * `copyFrom`, then in the newest versions of the same model.
 */
export async function copiesFor(
  options: Pick<PublishOptions, 'store' | 'controlPrefix' | 'versionsPrefix' | 'prefix' | 'copyFrom' | 'log'>,
  missing: readonly Expected[],
): Promise<Twins> {
  const { store, controlPrefix, versionsPrefix, prefix, copyFrom = [], log } = options;
  const found = new Twins();
  const wanted: Wanted = new Map();
  for (const file of missing) {
    const name = bytesName(file);
    if (name !== undefined) wanted.set(name, file.size);
  }
  const published = (under: string) => newestBelow(store, controlPrefix, under, prefix);
  for (const from of copyFrom) {
    if (wanted.size === 0) return found;
    // A raw prefix would take 1.0.1 for 1.0.
    const there = (await published(from)).filter((one) => one === from || one.startsWith(`${from}/`));
    if (there.length === 0) log.warn({ prefix: from }, 'nothing is published there: nothing to copy from');
    for (const one of there) await takeFrom(store, controlPrefix, one, wanted, found);
  }
  if (wanted.size === 0 || versionsPrefix === undefined) return found;
  for (const one of (await published(versionsPrefix)).slice(0, maxSiblings)) await takeFrom(store, controlPrefix, one, wanted, found);
  return found;
}

/** The published prefixes that begin so, but for our own, the newest first. */
async function newestBelow(store: Store, controlPrefix: string, under: string, own: string): Promise<string[]> {
  const others: { prefix: string; at: number }[] = [];
  for await (const { key, lastModified } of store.list(`${controlPrefix}/manifests/${under}`)) {
    const other = prefixOfManifest(controlPrefix, key);
    if (other !== undefined && other !== own) others.push({ prefix: other, at: lastModified.getTime() });
  }
  return others.sort((a, b) => b.at - a.at).map(({ prefix }) => prefix);
}

/** Moves what a published model has from `wanted` to `found`. Its record pins each object by its ETag. */
async function takeFrom(store: Store, controlPrefix: string, prefix: string, wanted: Wanted, found: Twins): Promise<void> {
  if (wanted.size === 0) return;
  const keys = controlKeys(controlPrefix, prefix);
  const published = await readPublished(store, keys.manifest).catch(() => undefined);
  // Its manifest has no git sha1: of what may be known by that alone, the size tells whether a look at the record is worth it.
  const sizes = new Set([...wanted].flatMap(([name, size]) => (name.length === sha256Digits ? [] : [size])));
  const likely = published?.manifest.files.filter((file) => wanted.has(file.sha256) || sizes.has(file.size)) ?? [];
  if (likely.length === 0) return;
  const stored = await readStored(store, keys.stored);
  for (const { path, sha256 } of likely) {
    const record = stored.get(path);
    if (!record?.etag || record.sha256 !== sha256) continue;
    for (const name of [sha256, record.gitSha1]) {
      if (name === undefined || wanted.get(name) !== record.size) continue;
      found.add(name, { info: { key: `${prefix}/${path}`, size: record.size, etag: record.etag, lastModified: new Date(0) }, sha256 });
      wanted.delete(name);
    }
  }
}
