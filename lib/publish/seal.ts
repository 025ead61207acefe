import { StepError } from '../errors.ts';
import type { Expected } from '../integrity.ts';
import { sha256Of } from '../integrity.ts';
import { type Manifest, manifestBytes } from '../manifest.ts';
import { type ObjectInfo, PreconditionFailed, type Store } from '../store.ts';
import { allEnded } from '../transfer/pool.ts';
import type { Claim } from './claim.ts';
import { type ControlKeys, type StoredFile, storedBytes } from './control.ts';
import { type Brought, checkNesting, compareListing, type Inventory, marksOf, rayHashName, rightSha256 } from './inventory.ts';
import { extraForeign } from './look.ts';
import type { PublishOptions } from './options.ts';

/**
 * The end of publishing, once every file is in the store: deletes what does not belong there, compares, and puts the records and, last,
 * the manifest. Throws `integrity` when other bytes lie there than were brought.
 */
export async function seal(
  options: Pick<PublishOptions, 'store' | 'signal' | 'content' | 'prefix' | 'controlPrefix' | 'rayHash' | 'source'>,
  keys: ControlKeys,
  claim: Claim,
  inventory: Inventory,
  brought: ReadonlyMap<string, Brought>,
): Promise<{ manifest: Manifest; bytes: Buffer }> {
  const { store, signal, content, prefix, rayHash } = options;
  const { files } = content;
  const extra = [...inventory.leftovers, ...extraForeign(inventory, options)];
  if (rayHash) {
    const hash = Buffer.from(content.commit);
    await store.put(`${prefix}/${rayHashName}`, hash, { metadata: marksOf({ path: rayHashName, size: hash.length }, sha256Of(hash)) });
  }
  const gone = extra.filter((key) => !(rayHash && key === `${prefix}/${rayHashName}`));
  if (gone.length > 0) await store.delete(gone);
  const listed = await compareListing(store, prefix, files, rayHash);
  const manifest = content.manifestOf(files.map(({ path, size }) => ({ path, size, sha256: (brought.get(path) as Brought).sha256 })));
  const lying: StoredFile[] = [];
  for (const file of files) {
    lying.push(storedFile(file, await asListed(store, file, brought.get(file.path) as Brought, listed.get(file.path))));
  }
  await allEnded([
    store.put(keys.stored, storedBytes(lying)),
    options.source && store.put(keys.source, options.source),
    checkNesting(store, options.controlPrefix, prefix),
  ]);
  await claim.confirm();
  signal.throwIfAborted();
  const bytes = manifestBytes(manifest);
  await putManifest(store, keys.manifest, bytes);
  return { manifest, bytes };
}

/**
 * What was brought, as it lies there now. A run that another one took over from may still put its own file over it: that is an object of other ETag
 * where the store makes them of a time or a key, and right when its marks say so. Throws `integrity` when it is not.
 */
async function asListed(store: Store, file: Expected, brought: Brought, listed: ObjectInfo | undefined): Promise<Brought> {
  if (listed === undefined || listed.etag === brought.info.etag) return brought;
  const info = await store.head(listed.key);
  if (info && rightSha256(file, info, brought.sha256) === brought.sha256) return { ...brought, info };
  throw new StepError('integrity', `failed to verify ${listed.key}: it was overwritten while this run published`, {
    hint: 'somebody else writes there; run it again when they are done',
  });
}

/** What is kept of a file. */
export function storedFile({ path, size, gitSha1, recipe }: Expected, { info, sha256 }: Brought): StoredFile {
  return { path, size, sha256, gitSha1, recipe, etag: info.etag, versionId: info.versionId, checksum: info.checksum };
}

/** Puts a manifest where none is. Throws `refused` when another run was first. */
export async function putManifest(store: Store, key: string, bytes: Buffer): Promise<void> {
  try {
    await store.put(key, bytes, { condition: { absent: true } });
  } catch (error) {
    if (!(error instanceof PreconditionFailed)) throw error;
    // A retry after a lost answer finds its own bytes.
    const found = await store.get(key);
    if (found?.bytes.equals(bytes)) return;
    throw new StepError('refused', `failed to publish ${key}: another run published other content at the same moment`);
  }
}
