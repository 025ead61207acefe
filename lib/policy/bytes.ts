/** A file's bytes at any place: on a disk, or on the Hub by ranges. */
export interface Bytes {
  /** Bytes. */
  size: number;
  /** Exactly `length` bytes from `offset`; both lie inside the file. */
  read(offset: number, length: number): Promise<Buffer>;
}

/** The bytes of a buffer. */
export function bytesOfBuffer(buffer: Buffer): Bytes {
  return { size: buffer.length, read: async (offset, length) => buffer.subarray(offset, offset + length) };
}

/** The file ends where more bytes were expected. */
export class EndOfBytes extends Error {}

const windowBytes = 64 * 1024;

/** Reads forward, a window at a time; what is skipped is not read. */
export class Cursor {
  readonly #bytes: Bytes;
  #window: Buffer = Buffer.alloc(0);
  #start: number;
  #at = 0;
  /** Bytes that were read from the file so far. */
  fetched = 0;

  constructor(bytes: Bytes, from = 0) {
    this.#bytes = bytes;
    this.#start = from;
  }

  get position(): number {
    return this.#start + this.#at;
  }

  get atEnd(): boolean {
    return this.position >= this.#bytes.size;
  }

  /** The next `length` bytes. Throws EndOfBytes. */
  async take(length: number): Promise<Buffer> {
    await this.#hold(length);
    const taken = this.#window.subarray(this.#at, this.#at + length);
    this.#at += length;
    return taken;
  }

  async skip(length: number): Promise<void> {
    if (length > this.#bytes.size - this.position) throw new EndOfBytes();
    if (this.#at + length <= this.#window.length) this.#at += length;
    else this.#restart(this.position + length);
  }

  /** Up to the next line feed, which is skipped; undefined when the line is longer than `limit` bytes. Throws EndOfBytes. */
  async line(limit: number): Promise<Buffer | undefined> {
    for (let have = this.#window.length - this.#at; ; have = Math.max(windowBytes, have * 2)) {
      const left = this.#bytes.size - this.position;
      if (have > 0) await this.#hold(Math.min(have, left));
      const end = this.#window.indexOf(0x0a, this.#at);
      if (end >= 0 && end - this.#at <= limit) {
        const line = this.#window.subarray(this.#at, end);
        this.#at = end + 1;
        return line;
      }
      if (end >= 0 || have > limit) return undefined;
      if (have >= left) throw new EndOfBytes();
    }
  }

  async #hold(length: number): Promise<void> {
    if (this.#at + length > this.#window.length) await this.#fill(length);
  }

  async #fill(length: number): Promise<void> {
    const { position } = this;
    if (length > this.#bytes.size - position) throw new EndOfBytes();
    const wanted = Math.min(Math.max(length, windowBytes), this.#bytes.size - position);
    this.#restart(position);
    this.#window = await this.#bytes.read(position, wanted);
    this.fetched += wanted;
  }

  #restart(position: number): void {
    this.#window = Buffer.alloc(0);
    this.#start = position;
    this.#at = 0;
  }
}
