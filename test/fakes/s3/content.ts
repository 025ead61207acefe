import { createReadStream } from 'node:fs';
import { type FileHandle, mkdir, open, rm } from 'node:fs/promises';
import { join } from 'node:path';

/** Bodies up to this many bytes are kept even by a store that discards. */
export const keptBelow = 500_000;

/** How many bytes of a body were let go before they came to the server (test/bench/front.ts). */
export const discardedHeader = 'x-test-discarded';

/** The bytes of an object or a part; shared between the objects that hold the same ones. */
export interface Content {
  readonly size: number;
  /** True when the bytes are gone, and zeros are read in their place. */
  readonly lost: boolean;
  /** The bytes from start to before end. */
  read(start: number, end: number): AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
  /** One more holder. */
  retain(): void;
  /** One holder less; the last one frees what lies on the disk. */
  release(): void;
}

/** Takes the bytes of one body as they come. */
export interface Sink {
  /** A promise, when the sender has to wait. */
  write(chunk: Buffer): Promise<void> | undefined;
  finish(): Promise<Content>;
  /** Throws away what was written. */
  abandon(): Promise<void>;
}

/** Where a server keeps bodies: in memory, in files of a folder, or nowhere. */
export class ContentStore {
  readonly #dir: string | undefined;
  readonly #discard: boolean;
  #count = 0;
  #folder: Promise<unknown> | undefined;

  constructor({ dir, discard = false }: { dir?: string | undefined; discard?: boolean | undefined }) {
    this.#dir = dir;
    this.#discard = discard;
  }

  /** A place for one body, of which so many bytes are gone already. */
  sink(gone = 0): Sink {
    if (this.#discard) return new DiscardSink(gone);
    if (this.#dir === undefined) return new MemorySink();
    this.#count += 1;
    this.#folder ??= mkdir(join(this.#dir, 'bodies'), { recursive: true });
    return new FileSink(join(this.#dir, 'bodies', String(this.#count)), this.#folder);
  }

  /** Removes the bodies' folder. */
  async clear(): Promise<void> {
    if (this.#folder && this.#dir) await rm(join(this.#dir, 'bodies'), { recursive: true, force: true });
  }
}

/** Bytes that are at hand, as content. */
export function memoryContent(chunks: Buffer[]): Content {
  const size = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  return { size, lost: false, read: (start, end) => slices(chunks, start, end), retain() {}, release() {} };
}

/** Contents one behind the other. Takes over the caller's hold on them. */
export function joinContents(parts: Content[]): Content {
  return {
    size: parts.reduce((sum, part) => sum + part.size, 0),
    lost: parts.some((part) => part.lost),
    async *read(start, end) {
      let at = 0;
      for (const part of parts) {
        const from = Math.max(start - at, 0);
        const to = Math.min(end - at, part.size);
        if (from < to) yield* part.read(from, to);
        at += part.size;
      }
    },
    retain: () => void parts.forEach((part) => void part.retain()),
    release: () => void parts.forEach((part) => void part.release()),
  };
}

/** A range of a content, which it holds. */
export function sliceContent(content: Content, start: number, end: number): Content {
  content.retain();
  return {
    size: end - start,
    lost: content.lost,
    read: (from, to) => content.read(start + from, start + to),
    retain: () => content.retain(),
    release: () => content.release(),
  };
}

function* slices(chunks: Buffer[], start: number, end: number): Iterable<Uint8Array> {
  let at = 0;
  for (const chunk of chunks) {
    if (at >= end) return;
    const next = at + chunk.length;
    if (next > start) yield start <= at && end >= next ? chunk : chunk.subarray(Math.max(start - at, 0), end - at);
    at = next;
  }
}

class MemorySink implements Sink {
  readonly #chunks: Buffer[] = [];

  write(chunk: Buffer): undefined {
    this.#chunks.push(chunk);
  }

  finish(): Promise<Content> {
    return Promise.resolve(memoryContent(this.#chunks));
  }

  abandon(): Promise<void> {
    return Promise.resolve();
  }
}

const zeros = Buffer.alloc(keptBelow);

class DiscardSink implements Sink {
  #chunks: Buffer[] | undefined;
  #size: number;

  constructor(gone: number) {
    this.#size = gone;
    this.#chunks = gone > 0 ? undefined : [];
  }

  write(chunk: Buffer): undefined {
    this.#size += chunk.length;
    if (this.#size > keptBelow) this.#chunks = undefined;
    else this.#chunks?.push(chunk);
  }

  finish(): Promise<Content> {
    if (this.#chunks) return Promise.resolve(memoryContent(this.#chunks));
    return Promise.resolve({ size: this.#size, lost: true, read: readZeros, retain() {}, release() {} });
  }

  abandon(): Promise<void> {
    return Promise.resolve();
  }
}

function* readZeros(start: number, end: number): Iterable<Uint8Array> {
  for (let left = end - start; left > 0; left -= zeros.length) yield left >= zeros.length ? zeros : zeros.subarray(0, left);
}

const writtenAtOnce = 1024 * 1024;

class FileSink implements Sink {
  readonly #path: string;
  readonly #file: Promise<FileHandle>;
  #written: Promise<void> = Promise.resolve();
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #size = 0;

  constructor(path: string, folder: Promise<unknown>) {
    this.#path = path;
    this.#file = folder.then(() => open(path, 'w'));
    this.#file.catch(() => {});
  }

  write(chunk: Buffer): Promise<void> | undefined {
    this.#waiting.push(chunk);
    this.#waitingBytes += chunk.length;
    this.#size += chunk.length;
    return this.#waitingBytes >= writtenAtOnce ? this.#flush() : undefined;
  }

  async finish(): Promise<Content> {
    await this.#flush();
    await (await this.#file).close();
    return fileContent(this.#path, this.#size);
  }

  async abandon(): Promise<void> {
    await this.#written.catch(() => {});
    await (await this.#file).close();
    await rm(this.#path, { force: true });
  }

  /** Writes what waits, behind what is being written. */
  #flush(): Promise<void> {
    const chunks = this.#waiting;
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#written = this.#written.then(async () => void (await (await this.#file).writev(chunks)));
    return this.#written;
  }
}

function fileContent(path: string, size: number): Content {
  let holders = 1;
  return {
    size,
    lost: false,
    read: (start, end) => (start < end ? createReadStream(path, { start, end: end - 1, highWaterMark: 256 * 1024 }) : []),
    retain() {
      holders += 1;
    },
    release() {
      holders -= 1;
      if (holders === 0) void rm(path, { force: true });
    },
  };
}
