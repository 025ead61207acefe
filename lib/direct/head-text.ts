import { type Head, parseHead } from './message.ts';

/** Heads over this many bytes are no good ones: node:http has the same limit. */
const limit = 16 * 1024;

/** The heads of a connection's answers as they come in, in memory that it keeps for all of them. */
export class HeadText {
  readonly #bytes = Buffer.allocUnsafeSlow(limit);
  #length = 0;

  /** Where the next bytes go; never empty. */
  get room(): Buffer {
    return this.#bytes.subarray(this.#length);
  }

  /**
   * So many bytes have come there. Gives the head once it is whole, with 1xx before it passed over, and what has come behind it, which is there until the
   * next read; `more` before that, and undefined for what is no good HTTP/1.1.
   */
  took(bytes: number, url: string): { head: Head; rest: Buffer } | 'more' | undefined {
    this.#length += bytes;
    for (;;) {
      const text = this.#bytes.subarray(0, this.#length);
      const end = text.indexOf('\r\n\r\n');
      if (end < 0 && text.length < limit) return 'more';
      const head = end < 0 ? undefined : parseHead(text.toString('latin1', 0, end), url);
      const rest = text.subarray(end + 4);
      if (head === undefined || head.status >= 200) {
        this.clear();
        return head && { head, rest };
      }
      // 1xx: the answer itself comes behind it.
      this.#length = rest.copy(this.#bytes);
    }
  }

  /** Forgets what has come of a head. */
  clear(): void {
    this.#length = 0;
  }
}
