import { kindOf, messageOf } from '../errors.ts';
import type { Expected } from '../integrity.ts';
import type { Log } from '../log.ts';
import type { MultipartUpload, Store, StoredPart } from '../store.ts';
import { mapLimited } from '../transfer/pool.ts';
import type { Claim } from './claim.ts';
import type { ClaimedUpload } from './claim-record.ts';
import { marksOf } from './inventory.ts';

/** An upload that goes on, or a new one. */
export interface OpenedUpload extends MultipartUpload {
  partSize: number;
  /** What the store has of it, by part number. */
  parts: ReadonlyMap<number, StoredPart>;
}

/** The multipart uploads of one claim: every one is named in it before its first part, so that none is ever lost. */
export class Uploads {
  readonly #store: Store;
  readonly #claim: Claim;
  readonly #log: Log;
  /** Open now, by key. */
  readonly #open = new Map<string, MultipartUpload>();
  /** Left by an earlier run for the same bytes, by key. */
  readonly #adopted = new Map<string, ClaimedUpload>();

  #taken = false;

  constructor(store: Store, claim: Claim, log: Log) {
    this.#store = store;
    this.#claim = claim;
    this.#log = log;
  }

  /** What an earlier run left and this one has not gone on with yet, by key. */
  get adopted(): ReadonlyMap<string, ClaimedUpload> {
    return this.#adopted;
  }

  /** Takes up what the claim's earlier holder left for the same bytes, and aborts the rest of it. Foreign uploads are never touched. */
  async adopt(prefix: string, missing: readonly Expected[]): Promise<void> {
    this.#taken = true;
    const { inherited } = this.#claim;
    const wanted = new Map(missing.map((file) => [`${prefix}/${file.path}`, file]));
    if (inherited) {
      const stale: MultipartUpload[] = [];
      for (const [key, upload] of inherited.uploads) {
        const file = wanted.get(key);
        if (file && digestOf(file) === upload.digest) this.#adopted.set(key, upload);
        else stale.push({ key, uploadId: upload.uploadId });
      }
      stale.push(...(await this.#unnamed(prefix, inherited)));
      for (const upload of stale) await this.#abort(upload);
      for (const { key } of stale) if (!this.#adopted.has(key)) this.#claim.forget(key);
      if (this.#adopted.size > 0) this.#log.info({ uploads: this.#adopted.size }, 'going on with the uploads of an earlier run');
    }
    const inParts = missing.filter((file) => file.size > this.#store.limits.minPart).map((file) => `${prefix}/${file.path}`);
    if (inParts.length > 0) await this.#claim.announce(inParts);
  }

  /** Uploads that an earlier holder began and was killed before it could name them: on announced keys, since it had the claim. */
  async #unnamed(prefix: string, inherited: NonNullable<Claim['inherited']>): Promise<MultipartUpload[]> {
    let open = await this.#store.listMultiparts(`${prefix}/`);
    if (open === undefined) {
      this.#log.warn({ prefix }, 'this store does not list unfinished uploads: some may be left behind');
      return [];
    }
    // MinIO lists them only for a whole key (seen with its last release): an empty list may mean that.
    if (open.length === 0)
      open = (await mapLimited([...inherited.keys], 8, (key) => this.#store.listMultiparts(key))).flatMap((found) => found ?? []);
    const named = new Set([...inherited.uploads.values()].map((upload) => upload.uploadId));
    // The store's clock has whole seconds in some answers.
    const since = inherited.since.getTime() - 1000;
    return open.filter(({ key, uploadId, initiated }) => inherited.keys.has(key) && !named.has(uploadId) && initiated.getTime() >= since);
  }

  /** Goes on with an adopted upload of that key, else begins one and names it in the claim. */
  async begin(key: string, file: Expected, partSize: number): Promise<OpenedUpload> {
    const adopted = this.#adopted.get(key);
    if (adopted) {
      const upload = { key, uploadId: adopted.uploadId };
      const parts = await this.#store.listParts(upload);
      if (parts !== undefined) {
        this.#open.set(key, upload);
        return { ...upload, partSize: adopted.partSize, parts: new Map(parts.map((part) => [part.number, part])) };
      }
      this.#adopted.delete(key);
    }
    const upload = await this.#store.beginMultipart(key, { size: file.size, partSize, metadata: marksOf(file, file.sha256) });
    try {
      await this.#claim.add(key, { uploadId: upload.uploadId, digest: digestOf(file), partSize });
    } catch (error) {
      // Another run has the claim, or nobody by now: what stands in no record, nobody would ever end.
      await this.#end(upload);
      throw error;
    }
    this.#open.set(key, upload);
    return { ...upload, partSize, parts: new Map() };
  }

  /** The upload became an object. */
  completed(key: string): void {
    this.#open.delete(key);
    this.#adopted.delete(key);
    this.#claim.forget(key);
  }

  /** The upload is of no use any more. */
  async abort(key: string): Promise<void> {
    const upload = this.#open.get(key);
    if (upload) await this.#abort(upload);
    this.completed(key);
  }

  /** Aborts all that this claim names, an earlier holder's too: nothing will go on with it. */
  async abandon(prefix: string): Promise<void> {
    if (!this.#taken) await this.adopt(prefix, []);
    await this.abortAll();
  }

  /** Aborts what is open or adopted: for permanent failures, and for adopted uploads that a copy made needless. */
  async abortAll(): Promise<void> {
    const left = new Map<string, MultipartUpload>(this.#open);
    for (const [key, { uploadId }] of this.#adopted) if (!left.has(key)) left.set(key, { key, uploadId });
    for (const upload of left.values()) {
      await this.#end(upload);
      this.completed(upload.key);
    }
  }

  /** Where a bucket denies it, what is left is a matter of its lifecycle rules: nothing else fails by that. */
  async #abort(upload: MultipartUpload): Promise<void> {
    try {
      await this.#store.abortMultipart(upload);
    } catch (error) {
      if (kindOf(error) !== 'denied') throw error;
      this.#tellLeft(upload, error);
    }
  }

  async #end(upload: MultipartUpload): Promise<void> {
    await this.#abort(upload).catch((error) => this.#tellLeft(upload, error));
  }

  #tellLeft({ key }: MultipartUpload, error: unknown): void {
    this.#log.warn({ key, error: messageOf(error) }, 'upload not aborted');
  }
}

/** What tells a file's bytes, as far as it is known before they come. */
function digestOf({ sha256, gitSha1, recipe }: Expected): string {
  if (sha256 !== undefined) return `sha256:${sha256}`;
  return gitSha1 === undefined ? `recipe:${recipe}` : `git-sha1:${gitSha1}`;
}
