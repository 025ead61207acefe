import type { Server as HttpServer } from 'node:http';
import { createServer, type Server, Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { discardedHeader, keptBelow } from '../fakes/s3/content.ts';
import { Lane, type Link, noLink } from './link.ts';

/** One for all connections: what is read into it is done with when the next read begins. */
const room = Buffer.allocUnsafeSlow(256 * 1024);

/**
 * Listens in the place of an HTTP server that discards large bodies, and lets them go before it: read into the same memory over and over, and told as a
 * length in a header. Node's own way makes a new 64 KiB buffer of each piece, which takes more CPU than all else that such a server does.
 * With a link its connections are as slow as if that lay in between, though no byte takes another way: each is only read, or written, later.
 */
export function inFrontOf(server: HttpServer, link: Link = noLink): Server {
  return createServer({ pauseOnConnect: true, noDelay: true }, (accepted) => {
    const front = new Front(accepted, link);
    server.emit('connection', front);
  });
}

/** The end of a connection that the HTTP server holds. */
class Front extends Duplex {
  readonly #socket: Socket;
  /** To the server, and from it. */
  readonly #in: Lane;
  readonly #out: Lane;
  /** What has come of a head. */
  #head = '';
  /** A head whose body is let go first. */
  #waiting: string | undefined;
  /** Bytes of a body that are still to come, and that the server gets or does not. */
  #passing = 0;
  #skipping = 0;

  constructor(accepted: Socket, link: Link) {
    super();
    const opened = performance.now();
    this.#in = new Lane(link, opened);
    this.#out = new Lane(link, opened);
    // `handle` is not in Node's documentation: sockets that a server accepts cannot be told otherwise where to read to.
    const { _handle: handle } = accepted as unknown as { _handle: unknown };
    Object.assign(accepted, { _handle: null });
    accepted.destroy();
    const onread = { buffer: room, callback: (bytes: number) => this.#received(room.subarray(0, bytes)) };
    this.#socket = new Socket({ handle, onread } as unknown as ConstructorParameters<typeof Socket>[0]);
    // Its close tells all.
    this.#socket.on('error', () => {});
    this.#socket.on('close', () => this.#arrives(0, () => this.destroy()));
    this.#socket.on('end', () => this.#arrives(0, () => this.push(null)));
    this.#socket.resume();
  }

  override _read(): void {}

  override _write(chunk: Uint8Array, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#write(chunk);
    this.#out.whenRoom(done);
  }

  override _final(done: () => void): void {
    this.#out.send(0, () => this.#socket.end(done));
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#out.send(0, () => this.#socket.destroy());
    done(error);
  }

  #write(bytes: Uint8Array | string): void {
    this.#out.send(bytes.length, (taken) => this.#socket.write(bytes, taken));
  }

  /** What is to be done once so many bytes, all that were read by now, have come. */
  #arrives(bytes: number, act: () => unknown): void {
    this.#in.send(bytes, (taken) => {
      act();
      taken();
    });
  }

  #received(bytes: Buffer): boolean {
    for (let rest = bytes; rest.length > 0; ) {
      if (this.#skipping > 0) rest = this.#skip(rest);
      else if (this.#passing > 0) rest = this.#pass(rest);
      else rest = this.#readHead(rest);
    }
    if (this.#in.hasRoom) return true;
    this.#in.whenRoom(() => this.#socket.resume());
    return false;
  }

  #skip(bytes: Buffer): Buffer {
    const count = Math.min(bytes.length, this.#skipping);
    this.#skipping -= count;
    const head = this.#skipping === 0 ? this.#waiting : undefined;
    this.#arrives(count, () => head !== undefined && this.push(head, 'latin1'));
    return bytes.subarray(count);
  }

  #pass(bytes: Buffer): Buffer {
    const count = Math.min(bytes.length, this.#passing);
    this.#passing -= count;
    const copy = Buffer.from(bytes.subarray(0, count));
    this.#arrives(count, () => this.push(copy));
    return bytes.subarray(count);
  }

  #readHead(bytes: Buffer): Buffer {
    const before = this.#head.length;
    this.#head += bytes.toString('latin1', 0, 64 * 1024);
    const end = this.#head.indexOf('\r\n\r\n');
    if (end < 0) return bytes.subarray(64 * 1024);
    const head = this.#head.slice(0, end + 4);
    this.#head = '';
    this.#begin(head);
    return bytes.subarray(head.length - before);
  }

  #begin(head: string): void {
    const length = Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? 0);
    const plain = head.startsWith('PUT ') && !/\r\nx-amz-content-sha256: *STREAMING-/i.test(head);
    const chunked = /\r\ntransfer-encoding:/i.test(head);
    if (plain && !chunked && length > keptBelow) {
      this.#letGo(head, length);
      return;
    }
    // A body of chunks ends nobody knows where: from here on all is the server's.
    this.#passing = chunked ? Number.POSITIVE_INFINITY : length;
    this.#arrives(head.length, () => this.push(head, 'latin1'));
  }

  #letGo(head: string, length: number): void {
    const goOn = 'HTTP/1.1 100 Continue\r\n\r\n';
    const waits = /\r\nexpect: *100-continue/i.test(head);
    this.#arrives(head.length, () => waits && this.#write(goOn));
    this.#skipping = length;
    const lines = head.split('\r\n').filter((line) => !/^(?:content-length|expect):/i.test(line));
    lines.splice(1, 0, `${discardedHeader}: ${length}`, 'content-length: 0');
    this.#waiting = lines.join('\r\n');
  }
}
