import { readChunks } from './chunks.ts';
import type { HeadText } from './head-text.ts';
import { type Head, plainLength, staysOpen } from './message.ts';
import { BadAnswer, type Ended, type Reader } from './reader.ts';

/** A store's answer to a write is a few lines. */
const limit = 64 * 1024;

/** An answer with a small body of whatever framing, kept whole. */
export class AnswerReader implements Reader {
  readonly #heads: HeadText;
  readonly #url: string;
  #head: Head | undefined;
  /** What has come behind the head, in memory that is made only for an answer with a body. */
  #come: Buffer = Buffer.alloc(0);
  #length = 0;
  #body: Buffer = this.#come;

  constructor(heads: HeadText, url: string) {
    this.#heads = heads;
    this.#url = url;
  }

  /** The body, once the answer has ended. */
  get body(): Buffer {
    return this.#body;
  }

  room(): Buffer {
    return this.#head ? this.#come.subarray(this.#length) : this.#heads.room;
  }

  took(bytes: number): Ended | undefined {
    if (this.#head) return this.#more(this.#head, bytes);
    const found = this.#heads.took(bytes, this.#url);
    if (found === 'more') return undefined;
    if (found === undefined) return { head: undefined, reusable: false };
    this.#head = found.head;
    if (lengthOf(found.head) === 0 && found.rest.length === 0) return this.#end(found.head, Buffer.alloc(0));
    this.#come = Buffer.allocUnsafe(limit);
    return this.#more(found.head, found.rest.copy(this.#come));
  }

  closed(): Ended | undefined {
    const head = this.#head;
    if (head === undefined || lengthOf(head) !== undefined || head.headers['transfer-encoding'] !== undefined) return undefined;
    return { ...this.#end(head, this.#come.subarray(0, this.#length)), reusable: false };
  }

  #more(head: Head, bytes: number): Ended | undefined {
    this.#length += bytes;
    const come = this.#come.subarray(0, this.#length);
    const length = lengthOf(head);
    if (length !== undefined && come.length > length) throw new BadAnswer('more came than Content-Length says');
    if (come.length === length) return this.#end(head, come);
    const whole = /^chunked$/i.test(head.headers['transfer-encoding'] ?? '') ? readChunks(come) : undefined;
    if (whole) return this.#end(head, whole);
    if (this.#length === limit) throw new BadAnswer(`over ${limit} bytes came`);
    return undefined;
  }

  #end(head: Head, body: Buffer): Ended {
    this.#body = body;
    return { head, reusable: staysOpen(head) };
  }
}

/** RFC 9112, 6.3: some answers never have a body. */
function lengthOf(head: Head): number | undefined {
  return [204, 304].includes(head.status) ? 0 : plainLength(head);
}
