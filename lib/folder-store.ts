import { createHash, randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { copyFile, link, mkdir, open, readdir, readFile, rename, rm, rmdir, stat, utimes } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { StepError } from './errors.ts';
import { checkPaths } from './paths.ts';
import {
  type Condition,
  type MultipartUpload,
  type ObjectInfo,
  type OpenUpload,
  PreconditionFailed,
  type PutOptions,
  type Store,
  type StoredPart,
  type UploadedPart,
} from './store.ts';
import { safeJoin } from './workspace.ts';

interface SideRecord {
  etag: string;
  metadata: Record<string, string>;
}

interface UploadRecord {
  key: string;
  partSize: number;
  metadata: Record<string, string>;
  initiated: string;
}

/**
 * A store in a folder, with the keys and the protocol of S3: an object is a file, its etag and metadata lie beside it under the
 * control prefix, and every change is a rename, so that no reader sees half an object.
 */
export class FolderStore implements Store {
  readonly uri: string;
  readonly location = {};
  readonly limits = {
    maxPut: Number.MAX_SAFE_INTEGER,
    maxCopy: Number.MAX_SAFE_INTEGER,
    minPart: 1,
    maxPart: 5 * 1024 ** 3,
    maxParts: 10_000,
  };
  readonly #dir: string;
  /** Records of the folder store itself, of no interest to anyone else. */
  readonly #own: string;

  constructor(dir: string, controlPrefix: string) {
    this.#dir = resolve(dir);
    this.#own = join(this.#dir, ...controlPrefix.split('/'), 'folder-store');
    this.uri = pathToFileURL(this.#dir).href;
  }

  detached(): Store {
    return this;
  }

  async probe(): Promise<{ conditionalWrites: boolean }> {
    return { conditionalWrites: true };
  }

  now(): Date {
    return new Date();
  }

  async head(key: string): Promise<ObjectInfo | undefined> {
    const info = await stat(this.#path(key)).catch(ignoreMissing);
    if (info === undefined || !info.isFile()) return undefined;
    const side = await this.#side(key);
    // A file that was put there by hand, or changed since, has no record: its etag then comes from size and time.
    const etag = `${info.size.toString(16)}-${Math.round(info.mtimeMs * 1000).toString(16)}`;
    const ours = side?.etag === etag;
    return { key, size: info.size, etag, lastModified: info.mtime, metadata: ours ? side.metadata : {} };
  }

  async get(key: string): Promise<{ bytes: Buffer; info: ObjectInfo } | undefined> {
    const info = await this.head(key);
    const bytes = info && (await readFile(this.#path(key)).catch(ignoreMissing));
    return info && bytes && { bytes, info };
  }

  async getRange(key: string, offset: number, into: Buffer, etag?: string): Promise<void> {
    if (etag !== undefined && (await this.head(key))?.etag !== etag) throw new PreconditionFailed(`${key} has changed`);
    const file = await open(this.#path(key), 'r');
    try {
      const { bytesRead } = await file.read(into, 0, into.length, offset);
      if (bytesRead !== into.length) throw new StepError('integrity', `failed to read ${key}: it is shorter than expected`);
    } finally {
      await file.close();
    }
  }

  async put(key: string, bytes: Uint8Array, { condition, metadata = {} }: PutOptions = {}): Promise<ObjectInfo> {
    const temporary = await this.#temporary();
    const file = await open(temporary, 'w');
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    return await this.#place(temporary, key, metadata, condition);
  }

  async *list(prefix: string): AsyncIterable<ObjectInfo> {
    const folder = prefix.includes('/') ? prefix.slice(0, prefix.lastIndexOf('/')) : '';
    const keys: string[] = [];
    await this.#walk(folder, keys);
    for (const key of keys.filter((each) => each.startsWith(prefix)).sort()) {
      const info = await this.head(key);
      if (info) yield info;
    }
  }

  async delete(keys: readonly string[], condition?: Condition): Promise<void> {
    for (const key of keys) {
      await this.#locked(key, async () => {
        await this.#check(key, condition);
        await rm(this.#path(key), { force: true });
        await rm(this.#sidePath(key), { force: true });
      });
      await this.#tidy(dirname(this.#path(key)));
      await this.#tidy(dirname(this.#sidePath(key)));
    }
  }

  async copy(source: ObjectInfo, key: string, metadata: Record<string, string>): Promise<ObjectInfo> {
    if ((await this.head(source.key))?.etag !== source.etag) throw new PreconditionFailed(`${source.key} has changed`);
    const temporary = await this.#temporary();
    // A clone where the file system can: then two versions share their blocks.
    await copyFile(this.#path(source.key), temporary, constants.COPYFILE_FICLONE);
    // The copy has a time of its own, so that its etag is its own too.
    await utimes(temporary, new Date(), new Date());
    return await this.#place(temporary, key, metadata);
  }

  async beginMultipart(
    key: string,
    { size, partSize, metadata = {} }: { size: number; partSize: number; metadata?: Record<string, string> },
  ): Promise<MultipartUpload> {
    const uploadId = randomUUID();
    const dir = this.#uploadDir(uploadId);
    await mkdir(dir, { recursive: true });
    const record: UploadRecord = { key, partSize, metadata, initiated: new Date().toISOString() };
    const file = await open(join(dir, 'data'), 'w');
    await file.truncate(size).finally(() => file.close());
    await this.#writeJson(join(dir, 'upload.json'), record);
    return { key, uploadId };
  }

  async uploadPart(upload: MultipartUpload, number: number, bytes: Uint8Array): Promise<UploadedPart> {
    const dir = this.#uploadDir(upload.uploadId);
    const { partSize } = await this.#upload(upload);
    const file = await open(join(dir, 'data'), 'r+');
    try {
      await file.write(bytes, 0, bytes.length, (number - 1) * partSize);
    } finally {
      await file.close();
    }
    const part: StoredPart = { number, size: bytes.length, etag: md5(bytes) };
    await this.#writeJson(join(dir, `part-${number}.json`), part);
    return part;
  }

  async listMultiparts(prefix: string): Promise<OpenUpload[]> {
    const ids = (await readdir(join(this.#own, 'uploads')).catch(ignoreMissing)) ?? [];
    const found: OpenUpload[] = [];
    for (const uploadId of ids) {
      const record = await readJson<UploadRecord>(join(this.#uploadDir(uploadId), 'upload.json'));
      if (record?.key.startsWith(prefix)) found.push({ key: record.key, uploadId, initiated: new Date(record.initiated) });
    }
    return found;
  }

  async listParts(upload: MultipartUpload): Promise<StoredPart[] | undefined> {
    const dir = this.#uploadDir(upload.uploadId);
    const names = await readdir(dir).catch(ignoreMissing);
    if (names === undefined || !names.includes('upload.json')) return undefined;
    const parts = await Promise.all(
      names.filter((name) => /^part-\d+\.json$/.test(name)).map((name) => readJson<StoredPart>(join(dir, name))),
    );
    return parts.filter((part) => part !== undefined).sort((a, b) => a.number - b.number);
  }

  partMatches(part: StoredPart, bytes: Uint8Array): boolean {
    return part.size === bytes.length && part.etag === md5(bytes);
  }

  async completeMultipart(upload: MultipartUpload, parts: readonly UploadedPart[], size: number): Promise<ObjectInfo> {
    const { key, metadata, partSize } = await this.#upload(upload);
    const have = new Map((await this.listParts(upload))?.map((part) => [part.number, part]));
    const wrong = parts.find((part) => have.get(part.number)?.etag !== part.etag);
    if (wrong || parts.length !== Math.ceil(size / partSize)) {
      throw new StepError('integrity', `failed to complete ${key}: part ${wrong?.number ?? parts.length} is not as it was sent`);
    }
    const data = join(this.#uploadDir(upload.uploadId), 'data');
    const file = await open(data, 'r+');
    await file.sync().finally(() => file.close());
    const info = await this.#place(data, key, metadata);
    await this.abortMultipart(upload);
    return info;
  }

  async abortMultipart({ uploadId }: MultipartUpload): Promise<void> {
    await rm(this.#uploadDir(uploadId), { recursive: true, force: true });
    await this.#tidy(join(this.#own, 'uploads'));
  }

  #path(key: string): string {
    return safeJoin(this.#dir, key);
  }

  #sidePath(key: string): string {
    return safeJoin(join(this.#own, 'objects'), `${key}.json`);
  }

  #uploadDir(uploadId: string): string {
    checkPaths([uploadId]);
    return join(this.#own, 'uploads', uploadId);
  }

  async #upload({ key, uploadId }: MultipartUpload): Promise<UploadRecord> {
    const record = await readJson<UploadRecord>(join(this.#uploadDir(uploadId), 'upload.json'));
    if (record?.key === key) return record;
    throw new StepError('not-found', `failed to go on with the upload of ${key}: it is gone`);
  }

  async #side(key: string): Promise<SideRecord | undefined> {
    return await readJson<SideRecord>(this.#sidePath(key));
  }

  async #temporary(): Promise<string> {
    const dir = join(this.#own, 'tmp');
    await mkdir(dir, { recursive: true });
    return join(dir, randomUUID());
  }

  /** Puts a finished file where its key says, with its record, if the condition holds. */
  async #place(temporary: string, key: string, metadata: Record<string, string>, condition?: Condition): Promise<ObjectInfo> {
    const target = this.#path(key);
    try {
      return await this.#locked(key, async () => {
        await this.#check(key, condition);
        await rm(this.#sidePath(key), { force: true });
        await renameInto(temporary, target);
        const placed = (await this.head(key)) as ObjectInfo;
        await this.#writeJson(this.#sidePath(key), { etag: placed.etag, metadata } satisfies SideRecord);
        return { ...placed, metadata };
      });
    } finally {
      await rm(temporary, { force: true });
    }
  }

  async #check(key: string, condition: Condition | undefined): Promise<void> {
    if (condition === undefined) return;
    const found = await this.head(key);
    const holds = 'absent' in condition ? found === undefined : found?.etag === condition.etag;
    if (!holds) throw new PreconditionFailed(`${key} is not as expected`);
  }

  /** One writer at a time per key: a link can be made only once. Left by a kill, it is taken away after a while. */
  async #locked<T>(key: string, work: () => Promise<T>): Promise<T> {
    const temporary = await this.#temporary();
    const lock = join(this.#own, 'locks', createHash('sha256').update(key).digest('hex'));
    await (await open(temporary, 'w')).close();
    try {
      for (;;) {
        await mkdir(dirname(lock), { recursive: true });
        if (await linkFree(temporary, lock)) break;
        const holder = await stat(lock).catch(ignoreMissing);
        if (holder && Date.now() - holder.mtimeMs > lockStaleMs) await rm(lock, { force: true });
        else await new Promise((resume) => setTimeout(resume, 10));
      }
    } finally {
      await rm(temporary, { force: true });
    }
    try {
      return await work();
    } finally {
      await rm(lock, { force: true });
    }
  }

  async #walk(folder: string, keys: string[]): Promise<void> {
    const dir = folder === '' ? this.#dir : this.#path(folder);
    const entries = (await readdir(dir, { withFileTypes: true }).catch(ignoreMissing)) ?? [];
    for (const entry of entries) {
      const path = join(dir, entry.name);
      const key = folder === '' ? entry.name : `${folder}/${entry.name}`;
      if (path === this.#own) continue;
      if (entry.isDirectory()) await this.#walk(key, keys);
      else if (entry.isFile()) keys.push(key);
    }
  }

  async #writeJson(path: string, value: unknown): Promise<void> {
    const temporary = await this.#temporary();
    const file = await open(temporary, 'w');
    await file.writeFile(JSON.stringify(value)).finally(() => file.close());
    await renameInto(temporary, path);
  }

  /** Takes empty folders away: in S3 there are none. */
  async #tidy(dir: string): Promise<void> {
    for (let each = dir; each.startsWith(`${this.#dir}/`); each = dirname(each)) {
      try {
        await rmdir(each);
      } catch {
        return;
      }
    }
  }
}

/** A change under a lock is a few renames: a lock this old belongs to a dead process. */
const lockStaleMs = 10_000;

function md5(bytes: Uint8Array): string {
  return createHash('md5').update(bytes).digest('hex');
}

/** True when the link was made: nobody else holds that name. */
async function linkFree(existing: string, name: string): Promise<boolean> {
  try {
    await link(existing, name);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/** A rename into a folder that another writer may be tidying away just now. */
async function renameInto(temporary: string, target: string): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    await mkdir(dirname(target), { recursive: true });
    try {
      return await rename(temporary, target);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || attempt === 10) throw error;
    }
  }
}

async function readJson<T>(path: string): Promise<T | undefined> {
  const text = await readFile(path, 'utf8').catch(ignoreMissing);
  try {
    return text === undefined ? undefined : (JSON.parse(text) as T);
  } catch {
    return undefined;
  }
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined;
  throw error;
}
