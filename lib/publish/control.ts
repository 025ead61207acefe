import { type Manifest, parseManifest } from '../manifest.ts';
import type { ObjectInfo, Store } from '../store.ts';

/** Where the records of one model lie, outside its prefix, because servers read all of that. */
export interface ControlKeys {
  manifest: string;
  source: string;
  stored: string;
  claim: string;
  probe: string;
}

/** The keys of a prefix's records below the control prefix. */
export function controlKeys(controlPrefix: string, prefix: string): ControlKeys {
  const key = (kind: string) => `${controlPrefix}/${kind}/${prefix}.json`;
  return {
    manifest: key('manifests'),
    source: key('source'),
    stored: key('stored'),
    claim: key('claims'),
    probe: `${controlPrefix}/probe`,
  };
}

/** The published prefix that a manifest's key stands for. */
export function prefixOfManifest(controlPrefix: string, key: string): string | undefined {
  return prefixOfRecord(controlPrefix, 'manifests', key);
}

/** The prefix that a record of that kind tells of. */
export function prefixOfRecord(controlPrefix: string, kind: string, key: string): string | undefined {
  const start = `${controlPrefix}/${kind}/`;
  return key.startsWith(start) && key.endsWith('.json') ? key.slice(start.length, -'.json'.length) : undefined;
}

export interface Published {
  manifest: Manifest;
  bytes: Buffer;
  info: ObjectInfo;
}

/** The manifest published under that key; undefined when the model does not exist for anyone. Throws `integrity` when it is none of ours. */
export async function readPublished(store: Store, key: string): Promise<Published | undefined> {
  const found = await store.get(key);
  return found && { manifest: parseManifest(found.bytes, `${store.uri}/${key}`), bytes: found.bytes, info: found.info };
}

/** What the store said of one file when it was published: for quick verification, and to pin a copy's source. */
export interface StoredFile {
  path: string;
  size: number;
  sha256: string;
  /** Where the Hub names the file by it. */
  gitSha1?: string | undefined;
  /** Where it was made on the way, by this. */
  recipe?: string | undefined;
  /** Empty while it was about to become an object. */
  etag: string;
  versionId?: string | undefined;
  checksum?: string | undefined;
}

/** The bytes of `stored/<prefix>.json`; `more` stands in it besides. */
export function storedBytes(files: readonly StoredFile[], more: object = {}): Buffer {
  return Buffer.from(`${JSON.stringify({ schemaVersion: 1, ...more, files }, null, 2)}\n`);
}

/** Reads `stored/<prefix>.json` by path; empty when it is missing or unreadable: it only saves requests. */
export async function readStored(store: Store, key: string): Promise<Map<string, StoredFile>> {
  const found = await store.get(key);
  if (found === undefined) return new Map();
  try {
    const { files } = JSON.parse(found.bytes.toString('utf8')) as { files: StoredFile[] };
    return new Map(files.map((file) => [file.path, file]));
  } catch {
    return new Map();
  }
}
