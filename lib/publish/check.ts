import { kindOf, messageOf } from '../errors.ts';
import { Verifier } from '../integrity.ts';
import type { FileFault } from '../local/check.ts';
import type { ManifestFile } from '../manifest.ts';
import type { Progress } from '../progress.ts';
import type { ObjectInfo, Store } from '../store.ts';
import { moveParts, type PartsOptions } from '../transfer/parts.ts';
import { mapLimited } from '../transfer/pool.ts';
import type { Found } from './catalog.ts';
import { controlKeys, readStored, type StoredFile } from './control.ts';
import { rayHashName } from './inventory.ts';

export interface CheckOptions extends PartsOptions {
  store: Store;
  controlPrefix: string;
  /** Read every object, whatever the store says of it. */
  deep: boolean;
  concurrency: number;
  progress: Progress;
}

/**
 * Compares what lies under a published prefix with its manifest. An object is right when it is the very one that was verified at publishing
 * (its ETag, or the store's own checksum, is the one on record); any other one is read. `readBytes` is what had to be read.
 */
export async function checkPublished(
  { prefix, manifest }: Pick<Found, 'prefix' | 'manifest'>,
  options: CheckOptions,
): Promise<{ faults: FileFault[]; readBytes: number }> {
  const { store, controlPrefix, deep, concurrency, progress } = options;
  const stored = await readStored(store, controlKeys(controlPrefix, prefix).stored);
  const listed = new Map<string, ObjectInfo>();
  for await (const object of store.list(`${prefix}/`)) listed.set(object.key.slice(prefix.length + 1), object);
  const faults: FileFault[] = [];
  const wanted = new Set(manifest.files.map(({ path }) => path));
  for (const [path, { size }] of listed) {
    // Ray's sidecar, and the empty object by which consoles show a folder.
    if (wanted.has(path) || path === rayHashName || (path === '' && size === 0)) continue;
    faults.push({ path, fault: 'extra', text: 'does not belong there' });
  }
  const toRead: ManifestFile[] = [];
  await mapLimited(manifest.files, concurrency, async (file) => {
    const object = listed.get(file.path);
    if (object === undefined) faults.push({ path: file.path, fault: 'missing', text: 'is missing' });
    else if (object.size !== file.size) {
      faults.push({ path: file.path, fault: 'size', text: `has ${object.size} bytes, expected ${file.size}` });
    } else if (deep || !(await isOnRecord(store, object, file, stored.get(file.path)))) toRead.push(file);
  });
  const readBytes = toRead.reduce((sum, { size }) => sum + size, 0);
  if (toRead.length > 0) progress.start('verify', readBytes);
  await mapLimited(toRead, concurrency, async (file) => {
    const fault = await readObject(`${prefix}/${file.path}`, file, options);
    if (fault) faults.push(fault);
  });
  progress.end();
  return { faults: faults.sort((a, b) => (a.path < b.path ? -1 : 1)), readBytes };
}

async function isOnRecord(store: Store, object: ObjectInfo, file: ManifestFile, record: StoredFile | undefined): Promise<boolean> {
  if (record === undefined || record.sha256 !== file.sha256 || record.size !== file.size) return false;
  if (record.etag === object.etag) return true;
  const head = record.checksum === undefined ? undefined : await store.head(object.key);
  return head?.checksum !== undefined && head.checksum === record.checksum;
}

async function readObject(key: string, file: ManifestFile, { store, progress, ...parts }: CheckOptions): Promise<FileFault | undefined> {
  const verifier = new Verifier(file);
  try {
    await moveParts(parts, {
      size: file.size,
      from: 0,
      read: (offset, into, signal) => store.getRange(key, offset, into, { signal, onBytes: (bytes) => progress.add(bytes) }),
      hash: verifier,
      take: async () => {},
    });
    verifier.finish();
    return undefined;
  } catch (error) {
    if (kindOf(error) !== 'integrity') throw error;
    return { path: file.path, fault: 'checksum', text: messageOf(error).replace(/^failed to verify .*?: /, '') };
  }
}
