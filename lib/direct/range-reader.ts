import type { HeadText } from './head-text.ts';
import { type Head, plainLength, staysOpen } from './message.ts';
import { BadAnswer, type Ended, type Reader } from './reader.ts';

export interface RangeOptions {
  /** Where the body goes. */
  into: Buffer;
  /** Judges the head: true to read the body, false to let it go; what it throws ends the request. */
  accept: (head: Head) => boolean;
  onBytes: (bytes: number) => void;
}

/** A body that nobody wants is read to its end up to this many bytes: cheaper than another connection. */
const skipLimit = 64 * 1024;

/** An answer whose body the kernel writes straight into the buffer that it is meant for: it has a Content-Length, and nothing else will do. */
export class RangeReader implements Reader {
  readonly #options: RangeOptions;
  readonly #heads: HeadText;
  readonly #url: string;
  #head: Head | undefined;
  /** What is still to be filled of a body. */
  #body: Buffer | undefined;
  /** The body is read only to get behind it. */
  #skipping = false;

  constructor(options: RangeOptions, heads: HeadText, url: string) {
    this.#options = options;
    this.#heads = heads;
    this.#url = url;
  }

  room(): Buffer {
    return this.#body ?? this.#heads.room;
  }

  took(bytes: number): Ended | undefined {
    if (this.#body) return this.#filled(this.#body, bytes);
    const found = this.#heads.took(bytes, this.#url);
    if (found === 'more') return undefined;
    return found ? this.#begin(found.head, found.rest) : { head: undefined, reusable: false };
  }

  closed(): undefined {
    return undefined;
  }

  #begin(head: Head, rest: Buffer): Ended | undefined {
    const { into, accept } = this.#options;
    const length = plainLength(head);
    let body = into.subarray(0, length);
    if (!accept(head)) {
      if (length === undefined || length > skipLimit) return { head, reusable: false };
      this.#skipping = true;
      body = Buffer.allocUnsafe(length);
    } else if (length === undefined || length > into.length) return { head: undefined, reusable: false };
    if (rest.length > body.length) throw new BadAnswer('more came than Content-Length says');
    this.#head = head;
    return this.#filled(body, rest.copy(body));
  }

  #filled(body: Buffer, bytes: number): Ended | undefined {
    if (bytes > 0 && !this.#skipping) this.#options.onBytes(bytes);
    this.#body = body.subarray(bytes);
    if (this.#body.length > 0 || this.#head === undefined) return undefined;
    return { head: this.#head, reusable: staysOpen(this.#head) };
  }
}
