import type { Head } from '../direct/message.ts';
import { kindOf, StepError } from '../errors.ts';
import { type HttpAnswer, readInto } from '../http/answer.ts';
import { networkError } from '../http/errors.ts';
import type { Expected } from '../integrity.ts';
import { shownUrl } from '../shown-url.ts';
import { retry } from '../transfer/retry.ts';
import { bareTag, discard, follow, followDirect, getDirect, type Hub, insist, sendTo } from './connection.ts';
import { redirectStatuses } from './hops.ts';
import { RisingTurns, WholeBody } from './whole-body.ts';

type Telling = (bytes: number) => void;

/** What a CDN says of a link that has ended; the Hub tells whether the file itself is gone. */
const endedStatuses = [400, 401, 403, 404, 410];

/**
 * The bytes of one file on the Hub, at a commit, by ranges. Reads may run side by side. The signed address on the CDN is asked for once
 * and renewed when it no longer works; a cut read goes on from where it was cut. Wrong bytes are never handed on: what a server says of a
 * range is compared with what was asked, and a file that changes between ranges is `integrity`.
 */
export class RemoteFile {
  readonly #hub: Hub;
  readonly #repo: string;
  readonly #file: Expected;
  readonly #url: string;
  /** Where the bytes are, once somebody has been led there; undefined inside when that failed. */
  #link: Promise<string | undefined> | undefined;
  /** ETags by where they were seen: the Hub's, and one for each address of the CDN. */
  readonly #tags = new Map<string, string>();
  /** Set once a server has answered a range by the whole file: from then on reads take turns on one such body. */
  #turns: RisingTurns | undefined;
  #body: WholeBody | undefined;

  constructor(hub: Hub, repo: string, commit: string, file: Expected) {
    this.#hub = hub;
    this.#repo = repo;
    this.#file = file;
    this.#url = `${hub.url}/${repo}/resolve/${commit}/${file.path.split('/').map(encodeURIComponent).join('/')}`;
  }

  /**
   * Fills `into` with the bytes from `offset`, telling each piece as it comes. Retries what may pass.
   * Throws `transient` after that, `denied`, `not-found`, `integrity`.
   */
  async read(offset: number, into: Buffer, onBytes: Telling, signal: AbortSignal): Promise<void> {
    let filled = 0;
    const count = (bytes: number) => {
      filled += bytes;
      onBytes(bytes);
    };
    await this.#retry(signal, async () => {
      if (filled === into.length || this.#turns) return;
      await this.#fill(this.#rangeOf(offset + filled, into.length - filled), into.subarray(filled), count, signal);
      if (filled === into.length || this.#turns) return;
      throw new StepError('transient', `failed to ${this.#doing}: cut after ${filled} of ${into.length} bytes`);
    });
    if (filled < into.length) await this.#readInTurn(offset + filled, into.subarray(filled), count, signal);
  }

  get #doing(): string {
    return `get ${this.#file.path} of ${this.#repo}`;
  }

  async #retry(signal: AbortSignal, work: () => Promise<void>): Promise<void> {
    const { retries, log } = this.#hub;
    await retry({ retries, signal, log, what: this.#doing }, work);
  }

  /** Undefined for all of the file: then a server need not know ranges. */
  #rangeOf(offset: number, length: number): string | undefined {
    return offset === 0 && length === this.#file.size ? undefined : `bytes=${offset}-${offset + length - 1}`;
  }

  /**
   * One try. It asks where the bytes are, if that is known: the first asks the Hub, and those beside it wait for where it is led.
   * It may bring fewer bytes, and none at all when the server turns out to know no ranges.
   */
  async #fill(range: string | undefined, into: Buffer, onBytes: Telling, signal: AbortSignal): Promise<void> {
    for (let renewals = 0; ; ) {
      const known = this.#link;
      // Whoever was given two links that had ended by then asks for one of its own.
      if (known === undefined || range === undefined || renewals > 1) {
        return await this.#fillByHub(range, into, onBytes, signal);
      }
      const url = await known;
      if (this.#turns) return;
      if (url === undefined) {
        this.#forget(known);
        continue;
      }
      try {
        if (await this.#fillFrom(url, range, into, onBytes, signal)) return;
        this.#forget(known);
      } catch (error) {
        if (kindOf(error) === 'transient') this.#forget(known);
        throw error;
      }
      renewals += 1;
    }
  }

  /** Asks the Hub, and tells those who wait where it led as soon as the head is there that says so. */
  async #fillByHub(range: string | undefined, into: Buffer, onBytes: Telling, signal: AbortSignal): Promise<void> {
    await this.#leading(async (led) => {
      const headers: Record<string, string> = range === undefined ? {} : { range };
      const accept = (head: Head, linkedEtag: string | undefined) => {
        const usable = this.#arrive(head, range, () => {}, linkedEtag);
        led(head.url);
        return usable;
      };
      if (await followDirect(this.#hub, this.#url, { headers, into, accept, onBytes, signal })) return;
      const answer = await this.#askHub(range, signal);
      led(answer?.url);
      if (answer) await readInto(answer, into, onBytes, signal);
    });
  }

  /** Undefined when the server turns out to know no ranges. */
  async #askHub(range: string | undefined, signal: AbortSignal): Promise<HttpAnswer | undefined> {
    const { answer, linkedEtag } = await follow(this.#hub, this.#url, range === undefined ? {} : { range }, signal);
    return this.#arrive(answer, range, () => discard(answer), linkedEtag) ? answer : undefined;
  }

  /** Judges the answer at the end of the way from the Hub. */
  #arrive(answer: Head | HttpAnswer, range: string | undefined, letGo: () => void, linkedEtag: string | undefined): boolean {
    this.#insistCdn(answer, letGo);
    insist(this.#hub, this.#doing, this.#repo, answer);
    return this.#judge(answer, range, letGo, linkedEtag);
  }

  /** Lets others wait for where this one is led. */
  async #leading(work: (led: (url: string | undefined) => void) => Promise<void>): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<string | undefined>();
    this.#link = promise;
    let known = false;
    const led = (url: string | undefined) => {
      known ||= url !== undefined;
      if (!known) this.#forget(promise);
      resolve(url);
    };
    try {
      await work(led);
    } finally {
      if (!known) led(undefined);
    }
  }

  /** False when the link has ended. */
  async #fillFrom(url: string, range: string, into: Buffer, onBytes: Telling, signal: AbortSignal): Promise<boolean> {
    const headers = { range };
    // Where it has moved, the Hub's way there is followed anew.
    const ended = ({ status }: Head) => url !== this.#url && (endedStatuses.includes(status) || redirectStatuses.includes(status));
    const accept = (head: Head) => {
      if (ended(head)) return false;
      insist(this.#hub, this.#doing, this.#repo, head);
      return this.#judge(head, range, () => {});
    };
    const head = await getDirect(this.#hub, url, { headers, into, accept, onBytes, signal });
    if (head) return !ended(head);
    const answer = await sendTo(this.#hub, url, headers, signal);
    if (accept(answer)) await readInto(answer, into, onBytes, signal);
    else discard(answer);
    return !ended(answer);
  }

  #forget(link: Promise<string | undefined>): void {
    if (this.#link === link) this.#link = undefined;
  }

  /** A fresh link that is refused: not a matter of the Hub's accounts. */
  #insistCdn(answer: Head, letGo: () => void): void {
    const { origin } = new URL(answer.url);
    if (origin === this.#hub.origin || ![...endedStatuses, 407].includes(answer.status)) return;
    letGo();
    throw new StepError('denied', `failed to ${this.#doing}: ${origin}, where the Hub led to, answers ${answer.status}`, {
      hint: 'a proxy or firewall may be in the way: see HTTPS_PROXY',
    });
  }

  /** Compares what a 2xx answer says of its body with what was asked for. False when the whole came for a range. */
  #judge(answer: Head, range: string | undefined, letGo: () => void, linkedEtag?: string): boolean {
    const { headers, status, url } = answer;
    const fault =
      this.#tagFault('the Hub', linkedEtag) ?? this.#tagFault(shownUrl(url), bareTag(headers.etag)) ?? this.#fault(answer, range);
    const ignored = fault === undefined && range !== undefined && status !== 206;
    if (fault !== undefined || ignored) letGo();
    if (fault !== undefined) {
      throw new StepError('integrity', `failed to ${this.#doing}: ${fault}`, {
        hint: 'run it again; if it stays so, try another --hub-url',
      });
    }
    if (ignored && this.#turns === undefined) {
      this.#hub.log.warn({ file: this.#file.path }, 'the server knows no ranges: the file comes in one stream');
      this.#turns = new RisingTurns();
    }
    return !ignored;
  }

  #fault({ headers, status }: Head, range: string | undefined): string | undefined {
    const { size } = this.#file;
    const encoding = headers['content-encoding'] ?? 'identity';
    if (encoding !== 'identity') return `it comes compressed (${encoding}), which was not asked for`;
    if (status === 200) {
      const length = Number(headers['content-length'] ?? 0);
      return length > size ? `it has ${length} bytes, the listing says ${size}` : undefined;
    }
    if (status !== 206 || range === undefined) return `the answer is ${status}`;
    const [, first, last, total] = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(headers['content-range'] ?? '') ?? [];
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(range) ?? [];
    if (first !== from || Number(last) > Number(to)) return `${range} was asked for, the answer has ${headers['content-range']}`;
    return total === '*' || Number(total) === size ? undefined : `it has ${total} bytes, the listing says ${size}`;
  }

  #tagFault(where: string, tag: string | undefined): string | undefined {
    const before = this.#tags.get(where);
    if (tag === undefined || before === tag) return undefined;
    if (before !== undefined) return `it changed on the way: its ETag was ${before}, now it is ${tag}`;
    this.#tags.set(where, tag);
    return undefined;
  }

  /** Reads on one body of the whole, which is opened again when it is broken or beyond the offset. */
  async #readInTurn(offset: number, into: Buffer, onBytes: Telling, signal: AbortSignal): Promise<void> {
    const done = await this.#turns?.take(offset);
    let filled = 0;
    try {
      await this.#retry(signal, async () => {
        if (this.#body === undefined || this.#body.position > offset + filled) {
          this.#body?.close();
          this.#body = undefined;
          const answer = await this.#askHub(undefined, signal);
          this.#body = answer && new WholeBody(answer);
        }
        try {
          await this.#body?.read(offset + filled, into.subarray(filled), (bytes) => {
            filled += bytes;
            onBytes(bytes);
          });
        } catch (error) {
          this.#body?.close();
          this.#body = undefined;
          throw networkError(new URL(this.#url), error, signal);
        }
      });
      if (offset + filled === this.#file.size) this.#body?.close();
    } finally {
      done?.();
    }
  }
}
