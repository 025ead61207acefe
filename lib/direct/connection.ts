import type { OnReadOpts, Socket } from 'node:net';
import { isCut, StepError } from '../errors.ts';
import { shownUrl } from '../shown-url.ts';
import type { Pace } from '../transfer/pace.ts';
import { sendInPieces } from '../transfer/pieces.ts';
import { TrickleWatch } from '../transfer/rate.ts';
import { stalled } from '../transfer/stalled.ts';
import { HeadText } from './head-text.ts';
import type { Head } from './message.ts';
import { BadAnswer, type MakeReader, type Reader } from './reader.ts';

export interface Message {
  url: string;
  /** All before the body. */
  text: string;
  body?: Uint8Array | undefined;
  reader: MakeReader;
  signal: AbortSignal;
  /** ms without a byte after which it is given up; so long each piece of a body may take, and the floor rate be missed. */
  stallTimeout: number;
}

interface Exchange {
  url: string;
  reader: Reader;
  stallTimeout: number;
  resolve: (head: Head | undefined) => void;
  reject: (error: unknown) => void;
}

/** One connection, for one request at a time. */
export class Connection {
  /** True when the last request left it at the end of an answer. */
  reusable = false;
  /** True once a byte of the last request's answer has come. */
  answered = false;
  /** True once all of the last request has been taken by the system. */
  sent = false;
  /** True when the last request failed because the other side closed the connection. */
  cut = false;
  readonly #socket: Socket;
  readonly #ready: Promise<void>;
  readonly #heads = new HeadText();
  readonly #pace: Pick<Pace, 'in' | 'out'>;
  #exchange: Exchange | undefined;
  #watch: TrickleWatch | undefined;
  #pause: NodeJS.Timeout | undefined;

  constructor(pace: Pick<Pace, 'in' | 'out'>, open: (onread: OnReadOpts) => { socket: Socket; ready: string }, onClose: () => void) {
    const { socket, ready } = open({
      // Asked for before each read: it is never shorter than a byte, and never longer than what is to be filled.
      buffer: () => this.#exchange?.reader.room() ?? this.#heads.room,
      callback: (bytes) => {
        this.#received(bytes);
        return this.#goOn(bytes);
      },
    });
    this.#pace = pace;
    this.#socket = socket;
    this.#ready = new Promise((resolve) => socket.once(ready, resolve));
    socket.setNoDelay(true);
    socket.on('error', (error) => {
      this.cut = isCut(error);
      this.#fail(error);
    });
    socket.on('end', () => this.#closed());
    socket.on('close', () => {
      onClose();
      this.#closed();
    });
    socket.on('timeout', () => this.#stalled('silent'));
  }

  /**
   * Sends one request and reads its answer; undefined when that has another form than its reader takes. Throws the system's errors, `transient` for what is
   * cut, silent or contradicts itself, and what the reader throws.
   */
  async exchange({ url, text, body, reader, signal, stallTimeout }: Message): Promise<Head | undefined> {
    this.reusable = false;
    this.answered = false;
    this.sent = false;
    this.cut = false;
    this.#watch = undefined;
    const onAbort = () => this.#fail(signal.reason);
    try {
      return await new Promise<Head | undefined>((resolve, reject) => {
        const exchange = { url, reader: reader(this.#heads), stallTimeout, resolve, reject };
        this.#exchange = exchange;
        if (signal.aborted) return onAbort();
        signal.addEventListener('abort', onAbort, { once: true });
        if (this.#socket.destroyed) return this.#closed();
        this.#socket.setTimeout(stallTimeout);
        void this.#send(exchange, text, body);
      });
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** Never throws: what fails ends the exchange. */
  async #send(exchange: Exchange, text: string, body: Uint8Array = new Uint8Array()): Promise<void> {
    // Not before TLS has verified the other side.
    await this.#ready;
    const sent = await sendInPieces(body, {
      rate: this.#pace.out,
      stallTimeout: exchange.stallTimeout,
      stop: (how) => this.#stalled(how),
      // What is answered already is not sent any more.
      goesOn: () => this.#exchange === exchange,
      write: (piece, { first }) => this.#write(first ? text : '', piece),
    });
    if (sent) this.sent = true;
  }

  async #write(text: string, piece: Uint8Array): Promise<void> {
    await new Promise((resolve) => {
      this.#socket.cork();
      // Called in any case, with an error when the connection has ended.
      if (piece.length === 0) this.#socket.write(text, 'latin1', resolve);
      else {
        if (text !== '') this.#socket.write(text, 'latin1');
        this.#socket.write(piece, resolve);
      }
      this.#socket.uncork();
    });
  }

  get #shown(): string {
    return this.#exchange === undefined ? 'nothing' : shownUrl(this.#exchange.url);
  }

  #received(bytes: number): void {
    const exchange = this.#exchange;
    if (exchange === undefined) {
      // Nothing was asked: whatever this is, it belongs to no answer.
      this.#socket.destroy();
      return;
    }
    this.answered = true;
    this.#watch ??= new TrickleWatch(exchange.stallTimeout);
    if (this.#watch.isTrickling(bytes)) {
      this.#stalled('only trickling');
      return;
    }
    try {
      const ended = exchange.reader.took(bytes);
      if (ended) this.#end(ended.head, ended.reusable);
    } catch (error) {
      this.#fail(error instanceof BadAnswer ? new StepError('transient', `failed to read ${this.#shown}: ${error.message}`) : error);
    }
  }

  /** False while there is a pause: the socket is not read until it is over. */
  #goOn(bytes: number): boolean {
    const pauseMs = Math.min(this.#pace.in.count(bytes), (this.#exchange?.stallTimeout ?? 0) / 2);
    if (pauseMs < 1) return true;
    this.#watch?.paused(pauseMs);
    this.#pause = setTimeout(() => this.#socket.resume(), pauseMs);
    return false;
  }

  #end(head: Head | undefined, reusable: boolean): void {
    // Behind half a body no request can follow.
    this.reusable = reusable && this.sent;
    if (head) head.remoteAddress = this.#socket.remoteAddress;
    const exchange = this.#clear();
    if (this.reusable) this.#socket.setTimeout(0);
    else this.#socket.destroy();
    exchange?.resolve(head);
  }

  /** The other side sends no more. */
  #closed(): void {
    if (this.#exchange === undefined) return;
    const ended = this.#exchange.reader.closed();
    if (ended) {
      this.#end(ended.head, false);
      return;
    }
    this.cut = true;
    this.#fail(new StepError('transient', `failed to read ${this.#shown}: the connection was closed`));
  }

  #stalled(how: string): void {
    this.#fail(this.#exchange && stalled(this.#exchange.url, how, this.#exchange.stallTimeout));
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
    this.#heads.clear();
    return exchange;
  }
}
