import type { IncomingHttpHeaders } from 'node:http';
import { connect as connectTcp, isIP, type OnReadOpts, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import { StepError } from './errors.ts';

/** The head of an answer. */
export interface Head {
  status: number;
  headers: IncomingHttpHeaders;
  url: string;
}

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

/** Heads over this many bytes are no good ones (node:http refuses them over 16 KiB). */
const headLimit = 64 * 1024;

/**
 * GETs whose bodies the kernel writes straight into the buffer that they are meant for. node:http makes two new buffers for every 64 KiB
 * and copies twice: 2.6 s of CPU for a GiB on loopback, where this takes 0.5 s. Only what bulk ranges need is here: HTTP/1.1 with a
 * Content-Length, keep-alive, TLS; no proxies, no redirects, no chunks. For all else there is `send`.
 */
export class DirectConnections {
  readonly #rejectUnauthorized: boolean;
  readonly #idle = new Map<string, Connection[]>();
  readonly #open = new Set<Connection>();

  constructor({ rejectUnauthorized }: { rejectUnauthorized: boolean }) {
    this.#rejectUnauthorized = rejectUnauthorized;
  }

  /**
   * The answer's head, once its body is in `into` (as much of it as Content-Length said) or was let go; undefined when a body that was
   * accepted is not of the form above. Throws the system's errors, `transient` for what is cut or silent, and what `accept` throws.
   */
  async get(url: string, request: DirectRequest): Promise<Head | undefined> {
    const target = new URL(url);
    for (;;) {
      const idle = this.#idle.get(target.origin)?.pop();
      const connection = idle ?? this.#connect(target);
      try {
        const head = await connection.get(target, request);
        if (connection.reusable) this.#keep(target.origin, connection);
        return head;
      } catch (error) {
        // A server may close a connection that waits, in the very moment it is used again: that was no try.
        if (idle === undefined || connection.answered || request.signal.aborted) throw error;
      }
    }
  }

  /** Ends every connection. */
  destroy(): void {
    for (const connection of this.#open) connection.destroy();
  }

  #keep(origin: string, connection: Connection): void {
    const idle = this.#idle.get(origin) ?? [];
    idle.push(connection);
    this.#idle.set(origin, idle);
  }

  #connect(target: URL): Connection {
    const secure = target.protocol === 'https:';
    const host = target.hostname.replace(/^\[|\]$/g, '');
    const port = Number(target.port) || (secure ? 443 : 80);
    const onClose = () => {
      this.#open.delete(connection);
      const idle = this.#idle.get(target.origin) ?? [];
      if (idle.includes(connection)) idle.splice(idle.indexOf(connection), 1);
    };
    const connection = new Connection((onread) => {
      if (!secure) return { socket: connectTcp({ host, port, onread }), ready: 'connect' };
      const tls: ConnectionOptions & { onread: OnReadOpts } = {
        host,
        port,
        onread,
        ALPNProtocols: ['http/1.1'],
        rejectUnauthorized: this.#rejectUnauthorized,
        ...(isIP(host) ? {} : { servername: host }),
      };
      return { socket: connectTls(tls), ready: 'secureConnect' };
    }, onClose);
    this.#open.add(connection);
    return connection;
  }
}

interface Exchange extends DirectRequest {
  url: string;
  resolve: (head: Head | undefined) => void;
  reject: (error: unknown) => void;
}

/** One connection, for one request at a time. */
class Connection {
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

  constructor(open: (onread: OnReadOpts) => { socket: Socket; ready: string }, onClose: () => void) {
    const { socket, ready } = open({
      // Asked for before each read: it is never shorter than a byte, and never longer than what is to be filled.
      buffer: () => this.#body ?? this.#text.subarray(this.#textLength),
      callback: (bytes) => {
        this.#received(bytes);
        return true;
      },
    });
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
      if (this.#body) this.#filled(exchange, bytes);
      else this.#readHead(exchange, bytes);
    } catch (error) {
      this.#fail(error);
    }
  }

  #readHead(exchange: Exchange, bytes: number): void {
    this.#textLength += bytes;
    for (;;) {
      const text = this.#text.subarray(0, this.#textLength);
      const end = text.indexOf('\r\n\r\n');
      if (end < 0 && text.length === headLimit) throw new StepError('transient', `failed to read ${this.#shown}: its head does not end`);
      if (end < 0) return;
      const head = parseHead(text.toString('latin1', 0, end), exchange.url);
      if (head === undefined) throw new StepError('transient', `failed to read ${this.#shown}: the answer is no HTTP/1.1`);
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
    if (!exchange.accept(head)) {
      this.#end(head, false);
      return;
    }
    const { 'content-length': length = '', 'transfer-encoding': coding } = head.headers;
    if (coding !== undefined || !/^\d+$/.test(length) || Number(length) > exchange.into.length) {
      this.#end(undefined, false);
      return;
    }
    const body = exchange.into.subarray(0, Number(length));
    const come = rest.copy(body);
    if (rest.length > body.length) throw new StepError('transient', `failed to read ${this.#shown}: more came than Content-Length says`);
    this.#textLength = 0;
    this.#head = head;
    this.#body = body;
    this.#filled(exchange, come);
  }

  #filled(exchange: Exchange, bytes: number): void {
    const left = this.#body?.subarray(bytes);
    if (bytes > 0) exchange.onBytes(bytes);
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

function requestText({ host, pathname, search }: URL, headers: Record<string, string>): string {
  const lines = Object.entries({ host, connection: 'keep-alive', ...headers }).map(([name, value]) => {
    if (/[^\t\u0020-\u007e\u0080-\u00ff]/.test(value))
      throw new StepError('usage', `failed to send header ${name}: it has control characters`);
    return `${name}: ${value}\r\n`;
  });
  return `GET ${pathname}${search} HTTP/1.1\r\n${lines.join('')}\r\n`;
}

/** RFC 9112, sections 4 and 5; undefined for what is not good HTTP/1.1: no leniency here. */
function parseHead(text: string, url: string): Head | undefined {
  const [first = '', ...lines] = text.split('\r\n');
  const status = /^HTTP\/1\.1 ([1-9]\d\d)(?: |$)/.exec(first)?.[1];
  if (status === undefined) return undefined;
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const [, name, value] = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*$/.exec(line) ?? [];
    if (name === undefined || value === undefined) return undefined;
    const key = name.toLowerCase();
    const before = headers[key];
    if (before !== undefined && key === 'content-length') return undefined;
    headers[key] = before === undefined ? value : `${before}, ${value}`;
  }
  return { status: Number(status), headers, url };
}
