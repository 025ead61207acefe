/** One object as a store knows it. */
export interface ObjectInfo {
  key: string;
  /** Bytes. */
  size: number;
  /** Opaque, without quotes: changes whenever the bytes do. */
  etag: string;
  lastModified: Date;
  versionId?: string | undefined;
  /** Our metadata, where it was asked for (head, get); lower-case names. */
  metadata?: Record<string, string> | undefined;
  /** The checksum that the store keeps, as `crc32:<base64>` or the like. */
  checksum?: string | undefined;
}

/** What a put must find, else it throws PreconditionFailed: nothing there at all, or exactly this etag. */
export type Condition = { absent: true } | { etag: string };

export interface PutOptions {
  condition?: Condition | undefined;
  metadata?: Record<string, string>;
  /** True for the model's own files: storage class and tags apply to them alone. */
  model?: boolean;
  /** Of the bytes (IEEE 802.3), where it is known already. */
  crc32?: number | undefined;
}

export interface RangeOptions {
  etag?: string | undefined;
  /** Told of each piece as it comes. */
  onBytes?: ((bytes: number) => void) | undefined;
  /** Ends this read, besides the store's own signal. */
  signal?: AbortSignal | undefined;
}

export interface StoredPart {
  number: number;
  size: number;
  etag: string;
  /** Like ObjectInfo.checksum. */
  checksum?: string | undefined;
}

export interface UploadedPart {
  number: number;
  etag: string;
  checksum?: string | undefined;
}

export interface MultipartUpload {
  key: string;
  uploadId: string;
}

export interface OpenUpload extends MultipartUpload {
  initiated: Date;
}

export interface StoreLimits {
  /** Objects of up to so many bytes can be put and copied in one request. */
  maxPut: number;
  maxCopy: number;
  minPart: number;
  maxPart: number;
  maxParts: number;
}

/** The object is not as the condition says: another writer was first. Not a failure by itself. */
export class PreconditionFailed extends Error {
  override readonly name = 'PreconditionFailed';
}

/**
 * Where objects live: S3, or a folder with the same keys. Every method may be called again after a transient failure.
 * All throw StepError: `denied`, `not-found` (bucket or upload), `transient`, `integrity` (the store says bytes came wrong).
 * Keys are full keys; prefixes in `list` are raw.
 */
export interface Store {
  /** `s3://bucket` or `file:///folder`: with `/<prefix>/` behind it the model's URI. */
  readonly uri: string;
  readonly limits: StoreLimits;
  /** How long (ms) its quickest answer so far took. */
  readonly latencyMs: number;
  /** True when a put goes with a crc32: known beforehand it need not be computed by itself. */
  readonly wantsCrc32: boolean;
  /** What the registry is told: endpoint and region, where there are any. */
  readonly location: { endpoint?: string | undefined; region?: string | undefined };

  /** The same store for cleaning up: its calls are not ended by the run's signal, but by a time limit of their own. */
  detached(): Store;
  /** Finds out what this store can do, once: whether it honours conditions by itself. Where not, `put` and `delete` look first, which leaves a gap. */
  probe(probeKey: string): Promise<{ conditionalWrites: boolean }>;
  /**
   * Takes away what killed runs left and no claim names: the probe's object, temporary files, half of a claim's deletion. What a living run
   * works with stays. Reads only where nothing was left.
   */
  sweep(records: { probe: string; claim: string }): Promise<void>;
  /** The store's clock: staleness of claims is told by it, not by ours. */
  now(): Date;
  head(key: string): Promise<ObjectInfo | undefined>;
  /** The whole object, for records of ours; undefined when it is not there. */
  get(key: string): Promise<{ bytes: Buffer; info: ObjectInfo } | undefined>;
  /** Fills `into` with the bytes from `offset`; PreconditionFailed unless the object still has that etag, `not-found` when it is gone. */
  getRange(key: string, offset: number, into: Buffer, options?: RangeOptions): Promise<void>;
  put(key: string, bytes: Uint8Array, options?: PutOptions): Promise<ObjectInfo>;
  /** Every object below a raw prefix, in key order. */
  list(prefix: string): AsyncIterable<ObjectInfo>;
  /** Deletes; what is not there is no failure. With a condition (one key only): PreconditionFailed unless it holds. */
  delete(keys: readonly string[], condition?: Condition): Promise<void>;
  /** Copies within the store, sets metadata anew, and fails unless the source still has that etag. */
  copy(source: ObjectInfo, key: string, metadata: Record<string, string>): Promise<ObjectInfo>;

  beginMultipart(key: string, options: { size: number; partSize: number; metadata?: Record<string, string> }): Promise<MultipartUpload>;
  uploadPart(upload: MultipartUpload, number: number, bytes: Uint8Array): Promise<UploadedPart>;
  /** The unfinished uploads below a raw prefix; undefined when this store does not tell us (denied). */
  listMultiparts(prefix: string): Promise<OpenUpload[] | undefined>;
  /** Undefined when the upload is gone; none where this store does not tell us (denied). */
  listParts(upload: MultipartUpload): Promise<StoredPart[] | undefined>;
  /** True when the listed part surely has these bytes, by the strongest digest that it carries. */
  partMatches(part: StoredPart, bytes: Uint8Array): boolean;
  completeMultipart(upload: MultipartUpload, parts: readonly UploadedPart[], size: number): Promise<ObjectInfo>;
  /** What is not there is no failure. */
  abortMultipart(upload: MultipartUpload): Promise<void>;
}
