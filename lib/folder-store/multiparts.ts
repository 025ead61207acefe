import { createHash, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { StepError } from '../errors.ts';
import { ownHolder } from '../holder.ts';
import { checkPaths } from '../paths.ts';
import type { MultipartUpload, ObjectInfo, OpenUpload, StoredPart, UploadedPart } from '../store.ts';
import { writeAt } from '../write-at.ts';
import { ignoreMissing, readJson, renameInto, tidy } from './files.ts';
import type { FolderObjects } from './objects.ts';

interface UploadRecord {
  key: string;
  partSize: number;
  metadata: Record<string, string>;
  initiated: string;
}

/** A power cut may leave the record of a part and not its bytes: one of another start of the machine, or of an unknown one, proves nothing. */
interface PartRecord extends StoredPart {
  boot?: string | undefined;
}

/** This start of the machine; of this process, where the system does not name its starts. */
const thisBoot = ownHolder().bootId ?? randomUUID();

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
    await writeFile(join(dir, 'upload.json'), JSON.stringify(record), { flush: true });
    await renameInto(dir, this.#uploadDir(uploadId));
    return { key, uploadId };
  }

  /** One writer at a time per part, so that its record tells of the bytes that are there: another run may hold the same upload. */
  async uploadPart(upload: MultipartUpload, number: number, bytes: Uint8Array): Promise<UploadedPart> {
    return await this.#objects.locked(partName(upload, number), () => this.#writePart(upload, number, bytes));
  }

  async #writePart(upload: MultipartUpload, number: number, bytes: Uint8Array): Promise<UploadedPart> {
    const dir = this.#uploadDir(upload.uploadId);
    const part: StoredPart = { number, size: bytes.length, etag: md5(bytes) };
    const record = await this.#objects.temporary();
    try {
      const file = await open(join(dir, 'data'), 'r+');
      try {
        // No record tells of bytes that are not there yet. Who completes the upload has moved it away, or finds that there is none.
        await rm(join(dir, `part-${number}.json`), { force: true });
        const { partSize } = await this.#upload(upload);
        await writeAt(file, bytes, (number - 1) * partSize);
      } finally {
        await file.close();
      }
      await writeFile(record, JSON.stringify({ ...part, boot: thisBoot } satisfies PartRecord));
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
    return await partsIn(this.#uploadDir(upload.uploadId));
  }

  partMatches(part: StoredPart, bytes: Uint8Array): boolean {
    return part.size === bytes.length && part.etag === md5(bytes);
  }

  /** Throws `integrity` when parts are not those that were sent; the upload is as it was then. */
  async complete(upload: MultipartUpload, parts: readonly UploadedPart[], size: number): Promise<ObjectInfo> {
    const record = await this.#upload(upload);
    const { key, metadata, partSize } = record;
    const dir = this.#uploadDir(upload.uploadId);
    if (parts.length !== Math.ceil(size / partSize)) throw notAsSent(key, parts.length);
    const file = await open(join(dir, 'data'), 'r+');
    await file.sync().finally(() => file.close());
    // From here no other run can begin to write into what becomes the object. Those that have begun are waited for: its time is its etag.
    const aside = await this.#objects.temporary();
    await rename(dir, aside).catch((error) => {
      throw ignoreMissing(error as NodeJS.ErrnoException) ?? gone(upload);
    });
    try {
      await this.#objects.unlocked(parts.map(({ number }) => partName(upload, number)));
      await checkParts(aside, record, parts);
    } catch (error) {
      await renameInto(aside, dir);
      throw error;
    }
    const info = await this.#objects.place(join(aside, 'data'), key, metadata);
    await rm(aside, { recursive: true, force: true });
    await tidy(join(this.#objects.own, 'uploads'), this.#objects.dir);
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

/** For the lock of a part. */
function partName({ uploadId }: MultipartUpload, number: number): string {
  return `${uploadId} part ${number}`;
}

/** What an upload's folder has; undefined when it is none. */
async function partsIn(dir: string): Promise<StoredPart[] | undefined> {
  const names = await readdir(dir).catch(ignoreMissing);
  if (names === undefined || !names.includes('upload.json')) return undefined;
  const upload = await readJson<UploadRecord>(join(dir, 'upload.json'));
  const records = await Promise.all(
    names.filter((name) => /^part-\d+\.json$/.test(name)).map((name) => readJson<PartRecord>(join(dir, name))),
  );
  const parts: StoredPart[] = [];
  for (const record of records) {
    if (upload === undefined || record === undefined) continue;
    const { boot, ...part } = record;
    if (boot === thisBoot || (await md5Of(dir, part, upload).catch(ignoreMissing)) === part.etag) parts.push(part);
  }
  return parts.sort((a, b) => a.number - b.number);
}

/** By the records; a part without its own one was just being written, and is read. */
async function checkParts(dir: string, upload: UploadRecord, parts: readonly UploadedPart[]) {
  const have = new Map((await partsIn(dir))?.map((part) => [part.number, part.etag]));
  for (const { number, etag } of parts) {
    const found = have.get(number) ?? (await md5Of(dir, { number, size: upload.partSize }, upload));
    if (found !== etag) throw notAsSent(upload.key, number);
  }
}

/** Of the bytes that are there; `size` may reach over the end. */
async function md5Of(dir: string, { number, size }: Pick<StoredPart, 'number' | 'size'>, { partSize }: UploadRecord): Promise<string> {
  const start = (number - 1) * partSize;
  const hash = createHash('md5');
  for await (const piece of createReadStream(join(dir, 'data'), { start, end: start + size - 1 })) hash.update(piece as Buffer);
  return hash.digest('hex');
}

function notAsSent(key: string, number: number): StepError {
  return new StepError('integrity', `failed to complete ${key}: part ${number} is not as it was sent`);
}

function gone({ key }: Pick<MultipartUpload, 'key'>): StepError {
  return new StepError('not-found', `failed to go on with the upload of ${key}: it is gone`);
}

function md5(bytes: Uint8Array): string {
  return createHash('md5').update(bytes).digest('hex');
}
