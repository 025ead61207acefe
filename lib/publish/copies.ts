import { StepError } from '../errors.ts';
import type { Expected } from '../integrity.ts';
import type { ObjectInfo, Store } from '../store.ts';
import { controlKeys, prefixOfManifest, readPublished, readStored } from './control.ts';
import type { PublishOptions } from './options.ts';

/** How many of the newest other versions are looked into for files to copy. */
const maxSiblings = 20;

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

/**
 * Those of the missing files, by sha256, that lie in another published model of this store, where a copy saves sending them: first in those at or below
 * `copyFrom`, then in the newest versions of the same model.
 */
export async function copiesFor(
  options: Pick<PublishOptions, 'store' | 'controlPrefix' | 'versionsPrefix' | 'prefix' | 'copyFrom' | 'log'>,
  missing: readonly Expected[],
): Promise<Map<string, ObjectInfo>> {
  const { store, controlPrefix, versionsPrefix, prefix, copyFrom = [], log } = options;
  const found = new Map<string, ObjectInfo>();
  const wanted = new Map(missing.flatMap(({ sha256, size }) => (sha256 === undefined ? [] : [[sha256, size] as const])));
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

/** Moves what a published model has from `wanted` (sizes by sha256) to `found`. Its record pins each object by its ETag. */
async function takeFrom(
  store: Store,
  controlPrefix: string,
  prefix: string,
  wanted: Map<string, number>,
  found: Map<string, ObjectInfo>,
): Promise<void> {
  if (wanted.size === 0) return;
  const keys = controlKeys(controlPrefix, prefix);
  const published = await readPublished(store, keys.manifest).catch(() => undefined);
  const shared = published?.manifest.files.filter((file) => wanted.has(file.sha256)) ?? [];
  if (shared.length === 0) return;
  const stored = await readStored(store, keys.stored);
  for (const { path, sha256 } of shared) {
    const record = stored.get(path);
    if (!record?.etag || record.sha256 !== sha256 || wanted.get(sha256) !== record.size) continue;
    found.set(sha256, { key: `${prefix}/${path}`, size: record.size, etag: record.etag, lastModified: new Date(0) });
    wanted.delete(sha256);
  }
}
