import { kindOf, StepError } from '../errors.ts';
import type { Expected } from '../integrity.ts';
import type { Log } from '../log.ts';
import { type Manifest, manifestBytes } from '../manifest.ts';
import { checkKeys } from '../paths.ts';
import type { Progress } from '../progress.ts';
import { type ObjectInfo, PreconditionFailed, type Store } from '../store.ts';
import { mapLimited } from '../transfer/pool.ts';
import { Claim, type ClaimTiming } from './claim.ts';
import type { Content } from './content.ts';
import { type ControlKeys, controlKeys, type Published, readPublished, type StoredFile, storedBytes } from './control.ts';
import {
  type Brought,
  checkNesting,
  compareListing,
  findCopies,
  type Inventory,
  marksOf,
  rayHashName,
  takeInventory,
} from './inventory.ts';
import { Uploads } from './uploads.ts';

export interface PublishOptions {
  store: Store;
  log: Log;
  signal: AbortSignal;
  progress: Progress;
  content: Content;
  /** What else the Hub says, kept beside the manifest; undefined when it is not known. */
  source: Uint8Array | undefined;
  /** The model's place, without slashes around it. */
  prefix: string;
  controlPrefix: string;
  /** What the prefixes of all versions of this model begin with; undefined when nothing tells versions apart. */
  versionsPrefix: string | undefined;
  /** Same for every try of one run. */
  runId: string;
  replace: boolean;
  rayHash: boolean;
  /** ms */
  waitTimeout: number;
  concurrency: number;
  claimTiming?: ClaimTiming | undefined;
  /** Sends one file to `key`; its sha256 is checked before the object is there. */
  send: SendFile;
}

export type SendFile = (file: Expected, key: string, uploads: Uploads, signal: AbortSignal) => Promise<Brought>;

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
  const { store, log, prefix, controlPrefix, content, rayHash } = options;
  const keys = controlKeys(controlPrefix, prefix);
  checkKeys([...content.files.map((file) => `${prefix}/${file.path}`), keys.manifest]);
  if (rayHash && content.files.some((file) => file.path === rayHashName)) {
    throw new StepError('refused', `failed to add ${prefix}/${rayHashName}: the model has a file of that name`, {
      hint: 'leave --ray-hash out',
    });
  }
  await checkNesting(store, controlPrefix, prefix);
  const done = await look(options, keys);
  if (done) return unchanged(done, log, `${store.uri}/${prefix}/`);
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
  return await publishClaimed(options, keys, claim, conditionalWrites);
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

/** The published manifest when it is ours already and all its objects are there; throws `refused` when it is another's. */
async function look(options: PublishOptions, keys: ControlKeys): Promise<Published | undefined> {
  const { store, content, prefix, replace, log } = options;
  const published = await readPublished(store, keys.manifest);
  if (published === undefined) return undefined;
  if (!(await content.isSame(published.manifest))) {
    if (replace) return undefined;
    const { repo, commit } = published.manifest.source;
    throw new StepError('refused', `failed to publish ${store.uri}/${prefix}/: other content is published there (${repo} at ${commit})`, {
      hint: 'give another --model-version or --key-template, or --replace',
    });
  }
  try {
    await compareListing(store, prefix, published.manifest.files, true);
    return published;
  } catch (error) {
    if (kindOf(error) !== 'integrity') throw error;
    log.warn({ prefix, error: String(error) }, 'the published model was damaged: publishing it again');
    return undefined;
  }
}

async function publishClaimed(
  options: PublishOptions,
  keys: ControlKeys,
  claim: Claim,
  conditionalWrites: boolean,
): Promise<PublishOutcome> {
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
    const outcome = await bringAndPublish({ ...options, signal }, keys, claim, uploads, conditionalWrites);
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

async function bringAndPublish(
  options: PublishOptions,
  keys: ControlKeys,
  claim: Claim,
  uploads: Uploads,
  conditionalWrites: boolean,
): Promise<PublishOutcome> {
  const { store, log, signal, progress, content, prefix, concurrency, rayHash } = options;
  const { files } = content;
  const old = await readPublished(store, keys.manifest);
  const inventory = await inventoryOf(options, keys, old);
  if (inventory.foreign.length > 0 && !options.replace) {
    throw new StepError(
      'refused',
      `failed to publish ${store.uri}/${prefix}/: objects lie there that are not ours: ${some(inventory.foreign)}`,
      {
        hint: 'move them away, choose another --key-template, or give --replace to overwrite and delete them',
      },
    );
  }
  // From here until the new manifest stands, the model does not exist for anyone.
  if (old) await store.delete([keys.manifest], { etag: old.info.etag });
  const missing = files.filter((file) => !inventory.right.has(file.path));
  const copies = await copiesFor(options, missing);
  await uploads.adopt(prefix, missing);
  const brought = new Map(inventory.right);
  let uploadedBytes = 0;
  let copiedBytes = 0;
  const [totalBytes, toSend] = [sizeOf(files), sizeOf(missing)];
  log.info({ uri: `${store.uri}/${prefix}/`, files: files.length, bytes: totalBytes, toSend }, 'publishing');
  progress.start('upload', totalBytes);
  progress.add(totalBytes - toSend);
  // Large files first: the last one to end is then a small one.
  const order = [...missing].sort((a, b) => b.size - a.size);
  await mapLimited(order, concurrency, async (file) => {
    signal.throwIfAborted();
    const key = `${prefix}/${file.path}`;
    const twin = copies.get(file.sha256 ?? '');
    const copied = twin && (await copyFile(store, twin, key, file, log));
    if (copied) {
      copiedBytes += file.size;
      progress.add(file.size);
    } else uploadedBytes += file.size;
    brought.set(file.path, copied ?? (await options.send(file, key, uploads, signal)));
  });
  progress.end();
  await uploads.abortAll();
  const extra = [...inventory.leftovers, ...extraForeign(inventory, options)];
  if (rayHash) await store.put(`${prefix}/${rayHashName}`, Buffer.from(content.commit));
  if (extra.length > 0) await store.delete(extra);
  const listed = await compareListing(store, prefix, files, rayHash);
  const manifest = content.manifestOf(files.map(({ path, size }) => ({ path, size, sha256: (brought.get(path) as Brought).sha256 })));
  await store.put(
    keys.stored,
    storedBytes(files.map((file) => storedFile(file, brought.get(file.path) as Brought, listed.get(file.path)))),
  );
  if (options.source) await store.put(keys.source, options.source);
  await checkNesting(store, options.controlPrefix, prefix);
  await claim.confirm();
  signal.throwIfAborted();
  const bytes = manifestBytes(manifest);
  await putManifest(store, keys.manifest, bytes, conditionalWrites);
  log.info({ uri: `${store.uri}/${prefix}/`, uploadedBytes, copiedBytes }, 'published');
  return { manifest, bytes, uploadedBytes, copiedBytes, unchanged: false };
}

async function inventoryOf(
  options: Pick<PublishOptions, 'store' | 'prefix' | 'content' | 'rayHash' | 'concurrency'>,
  keys: ControlKeys,
  old: Published | undefined,
): Promise<Inventory> {
  const { store, prefix, content, rayHash, concurrency } = options;
  const known = new Set([...(old?.manifest.files.map((file) => file.path) ?? []), ...(old ? [rayHashName] : [])]);
  return await takeInventory({ store, prefix, files: content.files, known, storedKey: keys.stored, rayHash, concurrency });
}

async function copiesFor(
  { store, controlPrefix, versionsPrefix, prefix }: Pick<PublishOptions, 'store' | 'controlPrefix' | 'versionsPrefix' | 'prefix'>,
  missing: readonly Expected[],
): Promise<Map<string, ObjectInfo>> {
  if (versionsPrefix === undefined || missing.length === 0) return new Map();
  return await findCopies(store, controlPrefix, versionsPrefix, prefix, missing);
}

/** Foreign keys that are overwritten anyway need no delete. */
function extraForeign(inventory: Inventory, { prefix, content }: Pick<PublishOptions, 'prefix' | 'content'>): string[] {
  const own = new Set(content.files.map((file) => `${prefix}/${file.path}`));
  return inventory.foreign.filter((key) => !own.has(key));
}

/** A copy inside the store; undefined when its source has changed or gone, so that the file is sent instead. */
async function copyFile(store: Store, twin: ObjectInfo, key: string, file: Expected, log: Log): Promise<Brought | undefined> {
  try {
    const { sha256 = '' } = file;
    return { info: await store.copy(twin, key, marksOf(file, sha256)), sha256 };
  } catch (error) {
    if (!(error instanceof PreconditionFailed) && kindOf(error) !== 'not-found') throw error;
    log.info({ from: twin.key, to: key }, 'not copied: the source has changed');
    return undefined;
  }
}

function storedFile({ path, size, gitSha1 }: Expected, { info, sha256 }: Brought, listed: ObjectInfo | undefined): StoredFile {
  if (listed && info.etag !== listed.etag) {
    throw new StepError('integrity', `failed to verify ${listed.key}: it was overwritten while this run published`, {
      hint: 'somebody else writes there; run it again when they are done',
    });
  }
  return { path, size, sha256, gitSha1, etag: info.etag, versionId: info.versionId, checksum: info.checksum };
}

function sizeOf(files: readonly Expected[]): number {
  return files.reduce((sum, file) => sum + file.size, 0);
}

async function putManifest(store: Store, key: string, bytes: Buffer, conditionalWrites: boolean): Promise<void> {
  try {
    await store.put(key, bytes, conditionalWrites ? { condition: { absent: true } } : {});
  } catch (error) {
    if (!(error instanceof PreconditionFailed)) throw error;
    // A retry after a lost answer finds its own bytes.
    const found = await store.get(key);
    if (found?.bytes.equals(bytes)) return;
    throw new StepError('refused', `failed to publish ${key}: another run published other content at the same moment`);
  }
}

function some(keys: readonly string[]): string {
  return keys.slice(0, 5).join(', ') + (keys.length > 5 ? ` and ${keys.length - 5} more` : '');
}
