import { posix } from 'node:path';
import { StepError } from '../errors.ts';
import type { Expected } from '../integrity.ts';
import { type Manifest, type ManifestFile, manifestBytes } from '../manifest.ts';
import { archiveMethod } from '../methods.ts';
import { checkKeys } from '../paths.ts';
import { bring } from './bring.ts';
import type { Claim } from './claim.ts';
import { type PublishOutcome, publishClaimed } from './claimed.ts';
import { type Published, readPublished } from './control.ts';
import { type Brought, rightSha256 } from './inventory.ts';
import { lookForManifest } from './look.ts';
import { type ModelPlace, placeOf } from './model-place.ts';
import type { PublishOptions } from './options.ts';
import type { PublishPlan } from './publish.ts';
import { putManifest } from './seal.ts';
import type { Uploads } from './uploads.ts';

export type ArchiveOptions = Omit<PublishOptions, 'versionsPrefix' | 'copyFrom' | 'rayHash' | 'inspect'>;

/** The one file of an archived model; undefined for a model that servers read. Throws `integrity` when there are more. */
export function archiveIn({ derived, files }: Manifest): ManifestFile | undefined {
  if (derived?.method !== archiveMethod) return undefined;
  const [file, ...more] = files;
  if (file && more.length === 0) return file;
  throw new StepError('integrity', `failed to read the archive's manifest: it has ${files.length} files, expected one`);
}

/**
 * Publishes a model that is one archive: that one object, its sha256 checked before it is there, and its manifest last. Nothing lies under the model's prefix.
 * Throws as `publish` does.
 */
export async function publishArchive(options: ArchiveOptions): Promise<PublishOutcome> {
  const { store, prefix, controlPrefix } = options;
  const place = placeOf(controlPrefix, prefix, archiveMethod);
  checkKeys([place.keys.source, place.keys.claim]);
  return await publishClaimed(options, {
    uri: `${store.uri}/${place.path}`,
    keys: place.keys,
    folder: posix.dirname(place.path),
    look: () => look(options, place),
    work: (signal, claim, uploads) => sendArchive({ ...options, signal }, place, claim, uploads),
  });
}

/** The same as publishArchive would do, told without writing. */
export async function planArchive(
  options: Pick<ArchiveOptions, 'store' | 'content' | 'prefix' | 'controlPrefix' | 'replace'>,
): Promise<PublishPlan> {
  const { store, content, prefix, controlPrefix, replace } = options;
  const { path, keys } = placeOf(controlPrefix, prefix, archiveMethod);
  const plan = { unchanged: false, conflict: undefined, right: [], copy: [], send: [], delete: [] };
  const published = await readPublished(store, keys.manifest);
  if (published && (await content.isSame(published.manifest))) return { ...plan, unchanged: true, right: [...content.files] };
  const there = await archiveAt(options, path, fileAt(content.files, path));
  const conflict = published && !replace ? 'another archive is published there' : undefined;
  return { ...plan, conflict, [there ? 'right' : 'send']: [...content.files] };
}

async function look(options: ArchiveOptions, { path, keys }: ModelPlace): Promise<Published | undefined> {
  const { store, log } = options;
  const published = await lookForManifest(options, keys.manifest, `${store.uri}/${path}`);
  if (published === undefined) return undefined;
  if (await archiveAt(options, path, fileAt(published.manifest.files, path))) return published;
  log.warn({ key: path }, 'the published archive was damaged: publishing it again');
  return undefined;
}

/** The manifest's one file, under the name that it has in the store. */
function fileAt(files: readonly Expected[], key: string): Expected {
  return { ...(files[0] as Expected), path: posix.basename(key) };
}

/** The object, when it is exactly that archive. */
async function archiveAt({ store }: Pick<ArchiveOptions, 'store'>, key: string, file: Expected): Promise<Brought | undefined> {
  const info = await store.head(key);
  const sha256 = info && rightSha256(file, info);
  return info && sha256 !== undefined ? { info, sha256 } : undefined;
}

/** What lies at the key and is not this archive is written over: the control prefix is ours alone. */
async function sendArchive(options: ArchiveOptions, { path, keys }: ModelPlace, claim: Claim, uploads: Uploads): Promise<PublishOutcome> {
  const { store, log, signal, content, source } = options;
  const file = fileAt(content.files, path);
  const old = await readPublished(store, keys.manifest);
  if (old) await store.delete([keys.manifest], { etag: old.info.etag });
  const there = await archiveAt(options, path, file);
  const { uploadedBytes, copiedBytes } = await bring(
    { ...options, prefix: posix.dirname(path), versionsPrefix: undefined },
    [file],
    new Map(there ? [[file.path, there]] : []),
    uploads,
  );
  if ((await archiveAt(options, path, file)) === undefined) {
    throw new StepError('integrity', `failed to verify ${path}: it was overwritten while this run published`, {
      hint: 'somebody else writes there; run it again when they are done',
    });
  }
  if (source) await store.put(keys.source, source);
  await claim.confirm();
  signal.throwIfAborted();
  const manifest = content.manifestOf([]);
  const bytes = manifestBytes(manifest);
  await putManifest(store, keys.manifest, bytes);
  log.info({ uri: `${store.uri}/${path}`, uploadedBytes }, 'published');
  return { manifest, bytes, uploadedBytes, copiedBytes, unchanged: false };
}
