import { createHash, randomUUID } from 'node:crypto';
import { mkdir, open, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { StepError } from '../errors.ts';
import { checkPaths } from '../paths.ts';
import type { MultipartUpload, ObjectInfo, OpenUpload, StoredPart, UploadedPart } from '../store.ts';
import { ignoreMissing, readJson, renameInto, tidy } from './files.ts';
import type { FolderObjects } from './objects.ts';

interface UploadRecord {
  key: string;
  partSize: number;
  metadata: Record<string, string>;
  initiated: string;
}

/** Objects in parts: the multipart half of the Store. */
export class FolderMultiparts {
  readonly #objects: FolderObjects;

  constructor(objects: FolderObjects) {
    this.#objects = objects;
  }

  async begin(
    key: string,
    { size, partSize, metadata = {} }: { size: number; partSize: number; metadata?: Record<string, string> },
  ): Promise<MultipartUpload> {
    const uploadId = randomUUID();
    // Made aside: what is among the uploads is one, whenever a run is killed.
    const dir = await this.#objects.temporary();
    await mkdir(dir);
    const record: UploadRecord = { key, partSize, metadata, initiated: new Date().toISOString() };
    const file = await open(join(dir, 'data'), 'w');
    await file.truncate(size).finally(() => file.close());
    await writeFile(join(dir, 'upload.json'), JSON.stringify(record));
    await renameInto(dir, this.#uploadDir(uploadId));
    return { key, uploadId };
  }

  async uploadPart(upload: MultipartUpload, number: number, bytes: Uint8Array): Promise<UploadedPart> {
    const dir = this.#uploadDir(upload.uploadId);
    const { partSize } = await this.#upload(upload);
    const part: StoredPart = { number, size: bytes.length, etag: md5(bytes) };
    const record = await this.#objects.temporary();
    try {
      const file = await open(join(dir, 'data'), 'r+');
      try {
        await file.write(bytes, 0, bytes.length, (number - 1) * partSize);
      } finally {
        await file.close();
      }
      await writeFile(record, JSON.stringify(part));
      // No folder is made for it: that of an upload that was aborted meanwhile stays gone.
      await rename(record, join(dir, `part-${number}.json`));
      return part;
    } catch (error) {
      await rm(record, { force: true });
      throw ignoreMissing(error as NodeJS.ErrnoException) ?? gone(upload);
    }
  }

  async list(prefix: string): Promise<OpenUpload[]> {
    const ids = (await readdir(join(this.#objects.own, 'uploads')).catch(ignoreMissing)) ?? [];
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

  async complete(upload: MultipartUpload, parts: readonly UploadedPart[], size: number): Promise<ObjectInfo> {
    const { key, metadata, partSize } = await this.#upload(upload);
    const have = new Map((await this.listParts(upload))?.map((part) => [part.number, part]));
    const wrong = parts.find((part) => have.get(part.number)?.etag !== part.etag);
    if (wrong || parts.length !== Math.ceil(size / partSize)) {
      throw new StepError('integrity', `failed to complete ${key}: part ${wrong?.number ?? parts.length} is not as it was sent`);
    }
    const data = join(this.#uploadDir(upload.uploadId), 'data');
    const file = await open(data, 'r+');
    await file.sync().finally(() => file.close());
    const info = await this.#objects.place(data, key, metadata);
    await this.abort(upload);
    return info;
  }

  async abort({ uploadId }: MultipartUpload): Promise<void> {
    const aside = await this.#objects.temporary();
    await rename(this.#uploadDir(uploadId), aside).catch(ignoreMissing);
    await rm(aside, { recursive: true, force: true });
    await tidy(join(this.#objects.own, 'uploads'), this.#objects.dir);
  }

  #uploadDir(uploadId: string): string {
    checkPaths([uploadId]);
    return join(this.#objects.own, 'uploads', uploadId);
  }

  async #upload({ key, uploadId }: MultipartUpload): Promise<UploadRecord> {
    const record = await readJson<UploadRecord>(join(this.#uploadDir(uploadId), 'upload.json'));
    if (record?.key === key) return record;
    throw gone({ key });
  }
}

function gone({ key }: Pick<MultipartUpload, 'key'>): StepError {
  return new StepError('not-found', `failed to go on with the upload of ${key}: it is gone`);
}

function md5(bytes: Uint8Array): string {
  return createHash('md5').update(bytes).digest('hex');
}
