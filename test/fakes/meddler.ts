import { connect, createServer, type Server, type Socket } from 'node:net';

/** What a connection meets on its way; counts of bytes are of one direction. */
export interface Meddling {
  /** How many connections are hit; default: all. */
  times?: number;
  /** Turns one byte that the server sends, behind so many. */
  spoilAfter?: number;
  /** Turns one byte that the client sends, behind so many. */
  spoilSentAfter?: number;
  /** Lets nothing of what the server sends through. */
  mute?: true;
}

/** Stands between a client and a server and passes bytes on, but for what it meddles with: below TLS, as a broken middlebox does. */
export class Meddler {
  /** Connections that it has meddled with. */
  met = 0;
  meddling: Meddling | undefined;
  readonly #target: URL;
  readonly #sockets = new Set<Socket>();
  readonly #server: Server;
  /** As the server's, at another port. */
  origin = '';

  constructor(target: string, meddling: Meddling) {
    this.#target = new URL(target);
    this.meddling = meddling;
    this.#server = createServer((client) => this.#pass(client));
  }

  async listen(): Promise<this> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    const address = this.#server.address();
    const port = typeof address === 'object' ? address?.port : undefined;
    this.origin = `${this.#target.protocol}//127.0.0.1:${port}`;
    return this;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #pass(client: Socket): void {
    const server = connect(Number(this.#target.port), this.#target.hostname);
    const {
      times = Number.POSITIVE_INFINITY,
      spoilAfter,
      spoilSentAfter,
      mute,
    } = this.met < (this.meddling?.times ?? Infinity) ? (this.meddling ?? {}) : {};
    const note = () => {
      this.met = Math.min(times, this.met + 1);
    };
    for (const socket of [client, server]) {
      this.#sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => {
        this.#sockets.delete(socket);
        (socket === client ? server : client).destroy();
      });
    }
    if (mute) note();
    server.on(
      'data',
      spoil(spoilAfter, note, (bytes) => mute || client.write(bytes)),
    );
    client.on(
      'data',
      spoil(spoilSentAfter, note, (bytes) => server.write(bytes)),
    );
  }
}

function spoil(after: number | undefined, note: () => void, write: (bytes: Buffer) => void): (bytes: Buffer) => void {
  let passed = 0;
  return (bytes) => {
    const at = after === undefined ? -1 : after - passed;
    if (at >= 0 && at < bytes.length) {
      bytes[at] = ~(bytes[at] ?? 0) & 0xff;
      note();
    }
    passed += bytes.length;
    write(bytes);
  };
}
