import { constants } from 'node:fs';
import { copyFile, open, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { StepError } from '../errors.ts';
import {
  type Condition,
  type MultipartUpload,
  type ObjectInfo,
  type OpenUpload,
  PreconditionFailed,
  type PutOptions,
  type RangeOptions,
  type Store,
  type StoredPart,
  type UploadedPart,
} from '../store.ts';
import { flushFolder, ignoreMissing, tidy } from './files.ts';
import { FolderMultiparts } from './multiparts.ts';
import { FolderObjects } from './objects.ts';

/**
 * A store in a folder, with the keys and the protocol of S3: an object is a file, its etag and metadata lie beside it under the
 * control prefix, and every change is a rename, so that no reader sees half an object.
 */
export class FolderStore implements Store {
  readonly uri: string;
  readonly location = {};
  readonly latencyMs = 0;
  readonly wantsCrc32 = false;
  readonly limits = {
    maxPut: Number.MAX_SAFE_INTEGER,
    maxCopy: Number.MAX_SAFE_INTEGER,
    minPart: 1,
    maxPart: 5 * 1024 ** 3,
    maxParts: 10_000,
  };
  readonly #objects: FolderObjects;
  readonly #multiparts: FolderMultiparts;

  constructor(dir: string, controlPrefix: string) {
    this.#objects = new FolderObjects(dir, controlPrefix);
    this.#multiparts = new FolderMultiparts(this.#objects);
    this.uri = pathToFileURL(this.#objects.dir).href;
  }

  detached(): Store {
    return this;
  }

  async probe(): Promise<{ conditionalWrites: boolean }> {
    await this.#objects.sweep();
    return { conditionalWrites: true };
  }

  async sweep({ claim }: { claim: string }): Promise<void> {
    await this.#objects.sweep();
    await this.#objects.sweepRecord(claim);
  }

  now(): Date {
    return new Date();
  }

  async head(key: string): Promise<ObjectInfo | undefined> {
    return await this.#objects.head(key);
  }

  async get(key: string): Promise<{ bytes: Buffer; info: ObjectInfo } | undefined> {
    const info = await this.head(key);
    const bytes = info && (await readFile(this.#objects.path(key)).catch(ignoreMissing));
    return info && bytes && { bytes, info };
  }

  async getRange(key: string, offset: number, into: Buffer, { etag, onBytes, signal }: RangeOptions = {}): Promise<void> {
    signal?.throwIfAborted();
    if (etag !== undefined && (await this.head(key))?.etag !== etag) throw new PreconditionFailed(`${key} has changed`);
    const file = await open(this.#objects.path(key), 'r').catch(ignoreMissing);
    if (file === undefined) throw new StepError('not-found', `failed to read ${key}: it is not there`);
    try {
      const { bytesRead } = await file.read(into, 0, into.length, offset);
      if (bytesRead !== into.length) throw new StepError('integrity', `failed to read ${key}: it is shorter than expected`);
      onBytes?.(bytesRead);
    } finally {
      await file.close();
    }
  }

  async put(key: string, bytes: Uint8Array, { condition, metadata = {} }: PutOptions = {}): Promise<ObjectInfo> {
    const temporary = await this.#objects.temporary();
    await writeFile(temporary, bytes, { flush: true });
    return await this.#objects.place(temporary, key, metadata, condition);
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
      await this.#objects.locked(key, async () => {
        await this.#objects.check(key, condition);
        await rm(this.#objects.path(key), { force: true });
        await rm(this.#objects.sidePath(key), { force: true });
      });
      await tidy(dirname(this.#objects.path(key)), this.#objects.dir);
      await tidy(dirname(this.#objects.sidePath(key)), this.#objects.dir);
    }
    // Who deletes a model deletes its manifest first: it must not come back when the power is cut, the files gone.
    for (const folder of new Set(keys.map((key) => dirname(this.#objects.path(key))))) await flushFolder(folder);
  }

  async copy(source: ObjectInfo, key: string, metadata: Record<string, string>): Promise<ObjectInfo> {
    if ((await this.head(source.key))?.etag !== source.etag) throw new PreconditionFailed(`${source.key} has changed`);
    const temporary = await this.#objects.temporary();
    // A clone where the file system can: then two versions share their blocks.
    await copyFile(this.#objects.path(source.key), temporary, constants.COPYFILE_FICLONE);
    await using file = await open(temporary, 'r');
    // The copy has a time of its own, so that its etag is its own too.
    await file.utimes(new Date(), new Date());
    await file.sync();
    return await this.#objects.place(temporary, key, metadata);
  }

  async beginMultipart(
    key: string,
    options: { size: number; partSize: number; metadata?: Record<string, string> },
  ): Promise<MultipartUpload> {
    return await this.#multiparts.begin(key, options);
  }

  async uploadPart(upload: MultipartUpload, number: number, bytes: Uint8Array): Promise<UploadedPart> {
    return await this.#multiparts.uploadPart(upload, number, bytes);
  }

  async listMultiparts(prefix: string): Promise<OpenUpload[]> {
    return await this.#multiparts.list(prefix);
  }

  async listParts(upload: MultipartUpload): Promise<StoredPart[] | undefined> {
    return await this.#multiparts.listParts(upload);
  }

  partMatches(part: StoredPart, bytes: Uint8Array): boolean {
    return this.#multiparts.partMatches(part, bytes);
  }

  async completeMultipart(upload: MultipartUpload, parts: readonly UploadedPart[], size: number): Promise<ObjectInfo> {
    return await this.#multiparts.complete(upload, parts, size);
  }

  async abortMultipart(upload: MultipartUpload): Promise<void> {
    await this.#multiparts.abort(upload);
  }

  async #walk(folder: string, keys: string[]): Promise<void> {
    const dir = folder === '' ? this.#objects.dir : this.#objects.path(folder);
    const entries = (await readdir(dir, { withFileTypes: true }).catch(ignoreMissing)) ?? [];
    for (const entry of entries) {
      const path = join(dir, entry.name);
      const key = folder === '' ? entry.name : `${folder}/${entry.name}`;
      if (path === this.#objects.own) continue;
      if (entry.isDirectory()) await this.#walk(key, keys);
      else if (entry.isFile()) keys.push(key);
    }
  }
}
