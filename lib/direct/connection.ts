import type { OnReadOpts, Socket } from 'node:net';
import { StepError } from '../errors.ts';
import { type Rate, TrickleWatch } from '../transfer/rate.ts';
import { type Head, parseHead, requestText } from './message.ts';

export interface DirectRequest {
  headers: Record<string, string>;
  /** Where the body goes. */
  into: Buffer;
  /** Judges the head: true to read the body, false to let it go; what it throws ends the request. */
  accept: (head: Head) => boolean;
  onBytes: (bytes: number) => void;
  signal: AbortSignal;
  /** ms. */
  stallTimeout: number;
}

/** A body that nobody wants is read to its end up to this many bytes: cheaper than another connection. */
const skipLimit = 64 * 1024;
/** Heads over this many bytes are no good ones (node:http refuses them over 16 KiB). */
const headLimit = 64 * 1024;

interface Exchange extends DirectRequest {
  url: string;
  resolve: (head: Head | undefined) => void;
  reject: (error: unknown) => void;
  /** The body is read only to get behind it. */
  skipping?: boolean;
}

/** One connection, for one request at a time. */
export class Connection {
  /** True when the last request left it at the end of an answer. */
  reusable = false;
  /** True once a byte of the last request's answer has come. */
  answered = false;
  readonly #socket: Socket;
  readonly #ready: Promise<void>;
  #exchange: Exchange | undefined;
  /** What has come of a head. */
  readonly #text = Buffer.allocUnsafe(headLimit);
  #textLength = 0;
  /** What is still to be filled of a body. */
  #body: Buffer | undefined;
  #head: Head | undefined;
  readonly #rate: Rate;
  #watch: TrickleWatch | undefined;
  #pause: NodeJS.Timeout | undefined;

  constructor(rate: Rate, open: (onread: OnReadOpts) => { socket: Socket; ready: string }, onClose: () => void) {
    const { socket, ready } = open({
      // Asked for before each read: it is never shorter than a byte, and never longer than what is to be filled.
      buffer: () => this.#body ?? this.#text.subarray(this.#textLength),
      callback: (bytes) => {
        this.#received(bytes);
        return this.#goOn(bytes);
      },
    });
    this.#rate = rate;
    this.#socket = socket;
    this.#ready = new Promise((resolve) => socket.once(ready, resolve));
    socket.setNoDelay(true);
    socket.on('error', (error) => this.#fail(error));
    socket.on('end', () => this.#fail(closed(this.#shown)));
    socket.on('close', () => {
      onClose();
      this.#fail(closed(this.#shown));
    });
    socket.on('timeout', () => {
      const seconds = Math.round((this.#exchange?.stallTimeout ?? 0) / 1000);
      this.#fail(new StepError('transient', `failed to read ${this.#shown}: silent for ${seconds} s`));
    });
  }

  async get(target: URL, request: DirectRequest): Promise<Head | undefined> {
    const text = requestText(target, request.headers);
    const { signal, stallTimeout } = request;
    this.reusable = false;
    this.answered = false;
    const onAbort = () => this.#fail(signal.reason);
    try {
      return await new Promise<Head | undefined>((resolve, reject) => {
        this.#exchange = { ...request, url: target.href, resolve, reject };
        this.#watch = new TrickleWatch(stallTimeout);
        if (signal.aborted) return onAbort();
        signal.addEventListener('abort', onAbort, { once: true });
        if (this.#socket.destroyed)
          return this.#fail(new StepError('transient', `failed to reach ${this.#shown}: the connection was closed`));
        this.#socket.setTimeout(stallTimeout);
        // Not before TLS has verified the other side.
        void this.#ready.then(() => this.#socket.write(text, 'latin1'));
      });
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  destroy(): void {
    this.#socket.destroy();
  }

  get #shown(): string {
    if (this.#exchange === undefined) return 'nothing';
    const { origin, pathname } = new URL(this.#exchange.url);
    return origin + pathname;
  }

  #received(bytes: number): void {
    const exchange = this.#exchange;
    if (exchange === undefined) {
      // Nothing was asked: whatever this is, it belongs to no answer.
      this.#socket.destroy();
      return;
    }
    this.answered = true;
    try {
      if (this.#watch?.isTrickling(bytes)) {
        const seconds = Math.round(exchange.stallTimeout / 1000);
        throw new StepError('transient', `failed to read ${this.#shown}: only trickling for ${seconds} s`);
      }
      if (this.#body) this.#filled(exchange, bytes);
      else this.#readHead(exchange, bytes);
    } catch (error) {
      this.#fail(error);
    }
  }

  /** False while there is a pause: the socket is not read until it is over. */
  #goOn(bytes: number): boolean {
    const pauseMs = Math.min(this.#rate.count(bytes), (this.#exchange?.stallTimeout ?? 0) / 2);
    if (pauseMs < 1) return true;
    this.#watch?.paused(pauseMs);
    this.#pause = setTimeout(() => this.#socket.resume(), pauseMs);
    return false;
  }

  #readHead(exchange: Exchange, bytes: number): void {
    this.#textLength += bytes;
    for (;;) {
      const text = this.#text.subarray(0, this.#textLength);
      const end = text.indexOf('\r\n\r\n');
      if (end < 0 && text.length < headLimit) return;
      const head = end < 0 ? undefined : parseHead(text.toString('latin1', 0, end), exchange.url);
      if (head === undefined) {
        this.#end(undefined, false);
        return;
      }
      head.remoteAddress = this.#socket.remoteAddress;
      const rest = text.subarray(end + 4);
      if (head.status >= 200) {
        this.#begin(exchange, head, rest);
        return;
      }
      // 1xx: the answer itself comes behind it.
      this.#textLength = rest.copy(this.#text);
    }
  }

  #begin(exchange: Exchange, head: Head, rest: Buffer): void {
    const { 'content-length': length = '', 'transfer-encoding': coding } = head.headers;
    const plain = coding === undefined && /^\d+$/.test(length);
    let body = exchange.into.subarray(0, Number(length));
    if (!exchange.accept(head)) {
      if (!plain || Number(length) > skipLimit) {
        this.#end(head, false);
        return;
      }
      exchange.skipping = true;
      body = Buffer.allocUnsafe(Number(length));
    } else if (!plain || Number(length) > exchange.into.length) {
      this.#end(undefined, false);
      return;
    }
    const come = rest.copy(body);
    if (rest.length > body.length) throw new StepError('transient', `failed to read ${this.#shown}: more came than Content-Length says`);
    this.#textLength = 0;
    this.#head = head;
    this.#body = body;
    this.#filled(exchange, come);
  }

  #filled(exchange: Exchange, bytes: number): void {
    const left = this.#body?.subarray(bytes);
    if (bytes > 0 && !exchange.skipping) exchange.onBytes(bytes);
    this.#body = left;
    if (left?.length === 0) this.#end(this.#head, !/\bclose\b/i.test(String(this.#head?.headers.connection ?? '')));
  }

  #end(head: Head | undefined, reusable: boolean): void {
    const exchange = this.#clear();
    this.reusable = reusable;
    if (reusable) this.#socket.setTimeout(0);
    else this.#socket.destroy();
    exchange?.resolve(head);
  }

  #fail(error: unknown): void {
    const exchange = this.#clear();
    this.reusable = false;
    this.#socket.destroy();
    exchange?.reject(error);
  }

  #clear(): Exchange | undefined {
    clearTimeout(this.#pause);
    const exchange = this.#exchange;
    this.#exchange = undefined;
    this.#body = undefined;
    this.#head = undefined;
    this.#textLength = 0;
    return exchange;
  }
}

function closed(shown: string): StepError {
  return new StepError('transient', `failed to read ${shown}: the connection was closed`);
}
