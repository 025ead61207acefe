import type { Algorithm, Checksums, ChecksumType } from './checksums.ts';
import type { Content } from './content.ts';
import type { XmlNode } from './xml.ts';

/** How an object is encrypted, as the client asked. */
export interface Encryption {
  algorithm: string;
  kmsKeyId?: string;
}

/** What a write says of an object besides its bytes. */
export interface Properties {
  /** Content-Type and the other headers that S3 keeps as they are, by lower-case name. */
  headers: Record<string, string>;
  /** x-amz-meta-*, by name without that prefix. */
  metadata: Record<string, string>;
  tags: Record<string, string>;
  storageClass: string;
  encryption: Encryption;
}

export interface Part {
  number: number;
  size: number;
  /** With quotes. */
  etag: string;
  lastModified: Date;
  checksums: Checksums;
  content: Content;
}

/** One version of an object, or a delete marker. */
export class StoredObject implements Properties {
  readonly key: string;
  readonly content: Content;
  /** With quotes, as the API gives it. */
  readonly etag: string;
  readonly headers: Record<string, string>;
  readonly metadata: Record<string, string>;
  tags: Record<string, string>;
  readonly storageClass: string;
  readonly encryption: Encryption;
  readonly checksums: Checksums;
  readonly checksumType: ChecksumType | undefined;
  /** Sizes and checksums of a multipart object's parts. */
  readonly parts: Omit<Part, 'content'>[] | undefined;
  /** Tests may set it: the server compares and shows what stands here. */
  lastModified = new Date();
  readonly deleteMarker: boolean;
  versionId = 'null';

  constructor(
    key: string,
    content: Content,
    etag: string,
    properties: Properties,
    more: { checksums?: Checksums; checksumType?: ChecksumType | undefined; parts?: Omit<Part, 'content'>[]; deleteMarker?: boolean } = {},
  ) {
    this.key = key;
    this.content = content;
    this.etag = etag;
    this.headers = properties.headers;
    this.metadata = properties.metadata;
    this.tags = properties.tags;
    this.storageClass = properties.storageClass;
    this.encryption = properties.encryption;
    this.checksums = more.checksums ?? {};
    this.checksumType = more.checksumType;
    this.parts = more.parts;
    this.deleteMarker = more.deleteMarker ?? false;
  }

  get size(): number {
    return this.content.size;
  }

  /** The whole body. */
  async bytes(): Promise<Buffer> {
    const chunks: Uint8Array[] = [];
    for await (const chunk of this.content.read(0, this.size)) chunks.push(chunk);
    return Buffer.concat(chunks);
  }

  async text(): Promise<string> {
    return (await this.bytes()).toString();
  }
}

/** A multipart upload that is neither completed nor aborted. */
export interface Upload {
  id: string;
  key: string;
  initiated: Date;
  properties: Properties;
  checksumAlgorithm: Algorithm | undefined;
  checksumType: ChecksumType | undefined;
  parts: Map<number, Part>;
}

export type Versioning = 'Enabled' | 'Suspended' | undefined;

let versionsMade = 0;

/** One bucket; keys and versions as S3 orders them. */
export class Bucket {
  readonly name: string;
  readonly created = new Date();
  versioning: Versioning;
  /** Lifecycle, encryption and public access block, by the name of their subresource, as they were put. */
  readonly settings = new Map<string, XmlNode>();
  /** Newest version first. */
  readonly versions = new Map<string, StoredObject[]>();
  readonly uploads = new Map<string, Upload>();
  /** What completed uploads became, by upload id. */
  readonly completed = new Map<string, StoredObject>();
  /** How far its clock is ahead of ours, and how late listings show what was put, in ms. */
  aheadMs = 0;
  listsLateMs = 0;
  #sorted: string[] | undefined;

  constructor(name: string, versioning?: Versioning) {
    this.name = name;
    this.versioning = versioning;
  }

  /** The current version; undefined when there is none or it is a delete marker. */
  latest(key: string): StoredObject | undefined {
    const newest = this.versions.get(key)?.[0];
    return newest?.deleteMarker ? undefined : newest;
  }

  version(key: string, versionId: string): StoredObject | undefined {
    return this.versions.get(key)?.find((object) => object.versionId === versionId);
  }

  /** Every key that has versions, delete markers among them, in S3's order. */
  sortedKeys(): string[] {
    this.#sorted ??= [...this.versions.keys()].sort(compareKeys);
    return this.#sorted;
  }

  /** Puts a new current version in place. */
  add(object: StoredObject): void {
    const before = this.versions.get(object.key);
    if (!before) this.#sorted = undefined;
    if (this.aheadMs !== 0) object.lastModified = new Date(object.lastModified.getTime() + this.aheadMs);
    if (this.versioning === 'Enabled') {
      versionsMade += 1;
      object.versionId = `v${String(versionsMade).padStart(15, '0')}`;
    }
    const kept = (before ?? []).filter((other) => {
      if (other.versionId !== object.versionId) return true;
      other.content.release();
      return false;
    });
    this.versions.set(object.key, [object, ...kept]);
  }

  /** Takes away every version of a key. */
  remove(key: string): void {
    for (const { versionId } of [...(this.versions.get(key) ?? [])]) this.drop(key, versionId);
  }

  /** Takes one version away for good; false when there is none of that id. */
  drop(key: string, versionId: string): boolean {
    const versions = this.versions.get(key) ?? [];
    const at = versions.findIndex((object) => object.versionId === versionId);
    if (at < 0) return false;
    versions[at]?.content.release();
    versions.splice(at, 1);
    if (versions.length === 0) {
      this.versions.delete(key);
      this.#sorted = undefined;
    }
    return true;
  }
}

/** Orders keys by their UTF-8 bytes, as S3 lists them: unlike JavaScript, characters above U+FFFF come last. */
export function compareKeys(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let at = 0; at < length; at += 1) {
    const left = a.charCodeAt(at);
    const right = b.charCodeAt(at);
    if (left !== right) return rank(left) - rank(right);
  }
  return a.length - b.length;
}

function rank(unit: number): number {
  if (unit < 0xd800) return unit;
  return unit < 0xe000 ? unit + 0x2000 : unit - 0x800;
}
