import { createServer, type IncomingHttpHeaders, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Server as NetServer, Socket } from 'node:net';
import { leaksInRequest, type Owner, search } from './leaks.ts';

/** One request as the server saw it: what tests assert on. */
export interface SeenRequest {
  method: string;
  /** Path and query, as sent. */
  url: string;
  headers: IncomingHttpHeaders;
  /** When it came: ms of `performance.now()`. */
  at: number;
  /** Status that was answered; 0 while open or when the connection was cut before a status. */
  status: number;
  /** Body bytes received and sent. */
  bytesIn: number;
  bytesOut: number;
}

/** What goes wrong. Exactly one of the actions; body actions count bytes of the response body. */
export interface Fault {
  /** Which requests: `METHOD /path?query` is matched. */
  on: RegExp | ((request: SeenRequest) => boolean);
  /** How many matching requests are hit; default 1. */
  times?: number;
  /** How many matching requests pass before the first is hit; default 0. */
  skip?: number;
  /** Answers this instead of the real answer, after draining the request's body. */
  answer?: { status: number; headers?: Record<string, string>; body?: string };
  /** Destroys the socket after that many body bytes (0: after the headers, -1: before any answer). */
  cutAfter?: number;
  /** Does all the work of the request, then destroys the socket in place of the answer. */
  loseAnswer?: true;
  /** Ends the answer properly after that many body bytes, with Content-Length corrected to match: a short body. */
  shortAfter?: number;
  /** Inverts the byte at this offset of the response body. */
  flipByteAt?: number;
  /** Sends that many body bytes, then nothing more, and keeps the socket open (-1: never answers at all). */
  stallAfter?: number;
  /** Sends the body byte by byte, one every so many ms: never silent, and hardly ever done. */
  trickleMs?: number;
  /** Takes the request's body byte by byte, one every so many ms. */
  sipMs?: number;
  /** Holds the answer back until this settles. */
  hold?: Promise<unknown>;
  /** Sends a head without end, one byte every so many ms. */
  trickleHeadMs?: number;
}

export interface ListenOptions {
  host?: string;
  port?: number;
  tls?: { key: string; cert: string };
  /** ms after which an idle connection is closed; the clients are not told. */
  idleMs?: number;
  /** A connection ends when it is used again, but by a POST, a PATCH or a write under a condition: as by a server that has closed it in that very moment. */
  cutsReuse?: boolean;
  /** What listens in the place of the HTTP server and hands the connections on. */
  front?: ((server: Server) => NetServer) | undefined;
}

type Handler = (request: IncomingMessage, response: ServerResponse) => Promise<void>;

/** A real HTTP server on a free port that records what it is asked and goes wrong on request. */
export class FakeServer {
  readonly requests: SeenRequest[] = [];
  /** `http://127.0.0.1:PORT`, after listen(). */
  origin = '';
  /** Called when a request is over, answered or not. */
  onDone: ((request: SeenRequest) => void) | undefined;
  #server: NetServer | undefined;
  readonly #sockets = new Set<Socket>();
  #cutsReuse = false;
  readonly #used = new WeakSet<Socket>();
  /** Requests that met such an end. */
  reusesCut = 0;
  readonly #faults: { fault: Fault; seen: number }[] = [];
  readonly #handler: Handler;
  readonly #owner: Owner;
  readonly #leaks: string[] = [];

  /** `owner`: whose secrets it may be sent; default: nobody's. */
  constructor(handler: Handler, owner: Owner = 'nobody') {
    this.#handler = handler;
    this.#owner = owner;
  }

  /** Adds a fault; returns a function that takes it away. */
  fail(fault: Fault): () => void {
    const entry = { fault, seen: 0 };
    this.#faults.push(entry);
    return () => {
      const at = this.#faults.indexOf(entry);
      if (at >= 0) this.#faults.splice(at, 1);
    };
  }

  /** Keeps no record of requests that are over: where nobody looks at what was asked, it would only grow. */
  forgetRequests(): void {
    this.onDone = () => {
      this.requests.length = 0;
    };
  }

  clearFaults(): void {
    this.#faults.length = 0;
  }

  /** The requests whose `METHOD /path?query` matches. */
  seen(pattern: RegExp): SeenRequest[] {
    return this.requests.filter((r) => pattern.test(`${r.method} ${r.url}`));
  }

  async listen({ host = '127.0.0.1', port = 0, tls, idleMs, cutsReuse = false, front }: ListenOptions = {}): Promise<this> {
    this.#cutsReuse = cutsReuse;
    const onRequest = (request: IncomingMessage, response: ServerResponse) => void this.#serve(request, response);
    const server = tls ? createTlsServer(tls, onRequest) : createServer(onRequest);
    if (idleMs !== undefined) Object.assign(server, { keepAliveTimeout: idleMs, keepAliveTimeoutBuffer: 0 });
    this.#server = front ? front(server) : server;
    server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
    await new Promise<void>((resolve, reject) => this.#server?.once('error', reject).listen(port, host, resolve));
    const address = this.#server.address() as AddressInfo;
    const shown = host === '0.0.0.0' ? '127.0.0.1' : host.includes(':') ? `[${host}]` : host;
    this.origin = `${tls ? 'https' : 'http'}://${shown}:${address.port}`;
    return this;
  }

  /** The secrets that requests brought which did not belong there; close() throws for what is not taken. */
  takeLeaks(): string[] {
    return this.#leaks.splice(0);
  }

  /** Closes the server and every open connection. Throws when a request brought a secret that did not belong there. */
  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => (this.#server ? this.#server.close(() => resolve()) : resolve()));
    const leaks = this.takeLeaks();
    if (leaks.length > 0) throw new Error(`secrets were sent: ${leaks.slice(0, 5).join('; ')}`);
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', headers } = request;
    const once = ['POST', 'PATCH'].includes(method) || (method !== 'GET' && ('if-match' in headers || 'if-none-match' in headers));
    if (this.#cutsReuse && this.#used.has(request.socket) && !once) {
      this.reusesCut += 1;
      return void request.socket.destroy();
    }
    this.#used.add(request.socket);
    const seen: SeenRequest = {
      method: request.method ?? '',
      url: request.url ?? '',
      headers: request.headers,
      at: performance.now(),
      status: 0,
      bytesIn: 0,
      bytesOut: 0,
    };
    this.requests.push(seen);
    const pieces: Buffer[] = [];
    countBytes(request, response, seen, pieces);
    response.on('close', () => {
      if (search.requests) this.#leaks.push(...leaksInRequest(seen, Buffer.concat(pieces).toString(), this.#owner));
      this.onDone?.(seen);
    });
    response.on('error', () => {});
    request.on('error', () => {});
    try {
      const fault = this.#take(seen);
      await fault?.hold;
      if (fault?.trickleHeadMs !== undefined) return trickleHead(request, fault.trickleHeadMs);
      if (fault?.stallAfter === -1) return;
      if (fault?.cutAfter === -1) return void request.socket.destroy();
      if (fault?.sipMs !== undefined) return sip(request, fault.sipMs);
      if (fault?.answer) {
        request.resume();
        await new Promise((resolve) => (request.complete ? resolve(null) : request.once('end', resolve)));
        response.writeHead(fault.answer.status, { 'content-length': Buffer.byteLength(fault.answer.body ?? ''), ...fault.answer.headers });
        return void response.end(fault.answer.body);
      }
      if (fault?.loseAnswer) loseAnswer(response);
      else if (fault) spoil(response, fault);
      await this.#handler(request, response);
    } catch (error) {
      if (response.headersSent) response.destroy();
      else response.writeHead(500).end(String(error));
    }
  }

  #take(seen: SeenRequest): Fault | undefined {
    for (const entry of this.#faults) {
      const { on, times = 1, skip = 0 } = entry.fault;
      const hit = on instanceof RegExp ? on.test(`${seen.method} ${seen.url}`) : on(seen);
      if (!hit) continue;
      entry.seen += 1;
      if (entry.seen > skip && entry.seen <= skip + times) return entry.fault;
    }
    return undefined;
  }
}

/** Bodies are kept up to so many bytes: what is larger is weights. */
const keptBytes = 128 * 1024;

function countBytes(request: IncomingMessage, response: ServerResponse, seen: SeenRequest, pieces: Buffer[]): void {
  const emit = request.emit.bind(request);
  request.emit = (event: string, ...rest: unknown[]) => {
    if (event === 'data') {
      seen.bytesIn += (rest[0] as Buffer).length;
      if (search.requests && seen.bytesIn <= keptBytes) pieces.push(rest[0] as Buffer);
    }
    return emit(event, ...rest);
  };
  const writeHead = response.writeHead.bind(response) as (...parts: unknown[]) => ServerResponse;
  response.writeHead = ((...parts: unknown[]) => {
    seen.status = parts[0] as number;
    return writeHead(...parts);
  }) as typeof response.writeHead;
  const write = response.write.bind(response) as (...parts: unknown[]) => boolean;
  response.write = ((...parts: unknown[]) => {
    seen.bytesOut += length(parts[0]);
    return write(...parts);
  }) as typeof response.write;
  const end = response.end.bind(response) as (...parts: unknown[]) => ServerResponse;
  response.end = ((...parts: unknown[]) => {
    if (typeof parts[0] !== 'function') seen.bytesOut += length(parts[0]);
    if (seen.status === 0) seen.status = response.statusCode;
    return end(...parts);
  }) as typeof response.end;
}

function length(chunk: unknown): number {
  if (typeof chunk === 'string') return Buffer.byteLength(chunk);
  return chunk instanceof Uint8Array ? chunk.length : 0;
}

/** Lets the handler answer into nothing, and destroys the socket when it is through. */
function loseAnswer(response: ServerResponse): void {
  response.writeHead = (() => response) as typeof response.writeHead;
  response.flushHeaders = () => {};
  response.write = (() => true) as typeof response.write;
  response.end = (() => {
    response.socket?.destroy();
    return response;
  }) as typeof response.end;
}

/** Puts a body fault between the handler and the wire: the handler writes as ever. */
function spoil(response: ServerResponse, fault: Fault): void {
  let sent = 0;
  let over = false;
  const limit = fault.cutAfter ?? fault.shortAfter ?? fault.stallAfter;
  const write = response.write.bind(response) as (chunk: unknown, cb?: (e?: Error | null) => void) => boolean;
  const end = response.end.bind(response) as () => ServerResponse;
  if (fault.trickleMs !== undefined) {
    trickle(response, fault.trickleMs, write, end);
    return;
  }
  if (fault.shortAfter !== undefined) {
    const writeHead = response.writeHead.bind(response) as (status: number, headers: Record<string, unknown>) => ServerResponse;
    response.writeHead = ((status: number, headers: Record<string, unknown> = {}) => {
      const length = Object.keys(headers).find((name) => name.toLowerCase() === 'content-length');
      if (length) headers[length] = Math.min(Number(headers[length]), fault.shortAfter ?? 0);
      return writeHead(status, headers);
    }) as typeof response.writeHead;
  }
  const pass = (raw: unknown): boolean => {
    if (over) return true;
    let chunk = Buffer.from(raw as Uint8Array);
    const flip = fault.flipByteAt;
    if (flip !== undefined && flip >= sent && flip < sent + chunk.length) chunk[flip - sent] = ~chunk[flip - sent]! & 0xff;
    if (limit !== undefined && sent + chunk.length >= limit) {
      over = true;
      chunk = chunk.subarray(0, limit - sent);
      sent += chunk.length;
      const finish = () => {
        if (fault.cutAfter !== undefined) response.socket?.destroy();
        else if (fault.shortAfter !== undefined) end();
      };
      if (chunk.length === 0) response.flushHeaders();
      if (chunk.length > 0) write(chunk, finish);
      else setImmediate(finish);
      return true;
    }
    sent += chunk.length;
    return write(chunk);
  };
  response.write = ((chunk: unknown, ...rest: unknown[]) => {
    const more = pass(chunk);
    const done = rest.find((r) => typeof r === 'function') as (() => void) | undefined;
    if (done) setImmediate(done);
    return more;
  }) as typeof response.write;
  response.end = ((chunk?: unknown) => {
    if (chunk !== undefined && typeof chunk !== 'function') pass(chunk);
    return over ? response : end();
  }) as typeof response.end;
}

/** Reads a body that never comes to its end: what the kernel's buffers do not hold stays with the client. */
function sip(request: IncomingMessage, ms: number): void {
  const timer = setInterval(() => request.read(1), ms);
  request.socket.on('close', () => clearInterval(timer));
}

/** Keeps what the handler writes and lets it out byte by byte. */
function trickle(response: ServerResponse, ms: number, write: (chunk: unknown) => boolean, end: () => ServerResponse): void {
  const kept: Buffer[] = [];
  let at = 0;
  response.write = ((chunk: unknown) => {
    kept.push(Buffer.from(chunk as Uint8Array));
    return true;
  }) as typeof response.write;
  response.end = ((chunk?: unknown) => {
    if (chunk !== undefined && typeof chunk !== 'function') kept.push(Buffer.from(chunk as Uint8Array));
    const whole = Buffer.concat(kept);
    const timer = setInterval(() => {
      if (at < whole.length) write(whole.subarray(at, at + 1));
      else end();
      at += 1;
    }, ms);
    response.on('close', () => clearInterval(timer));
    return response;
  }) as typeof response.end;
}

/** Never gets as far as the empty line. */
function trickleHead({ socket }: IncomingMessage, ms: number): void {
  const text = `HTTP/1.1 200 OK\r\nx-filler: ${'x'.repeat(8000)}`;
  let at = 0;
  const timer = setInterval(() => {
    socket.write(text[at % text.length] ?? 'x');
    at += 1;
  }, ms);
  socket.on('close', () => clearInterval(timer));
  socket.on('error', () => {});
}
