import { connect as connectTcp, isIP, type LookupFunction, type OnReadOpts } from 'node:net';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import type { Pace } from '../transfer/pace.ts';
import { Connection, type DirectRequest } from './connection.ts';
import type { Head } from './message.ts';

/**
 * GETs whose bodies the kernel writes straight into the buffer that they are meant for. node:http makes two new buffers for every 64 KiB
 * and copies twice: 2.6 s of CPU for a GiB on loopback, where this takes 0.5 s. Only what bulk ranges need is here: HTTP/1.1 with a
 * Content-Length, keep-alive, TLS; no proxies, no redirects, no chunks. For all else there is `send`.
 */
export class DirectConnections {
  readonly #rejectUnauthorized: boolean;
  readonly #idle = new Map<string, Connection[]>();
  readonly #open = new Set<Connection>();
  /** Origins that have answered in another form once: they are not asked twice for each range. */
  readonly #unfit = new Set<string>();

  readonly #pace: Pace;
  readonly #lookup: { lookup?: LookupFunction };

  /** `lookup`: what resolves names; default: the system's own. */
  constructor({ rejectUnauthorized, pace, lookup }: { rejectUnauthorized: boolean; pace: Pace; lookup?: LookupFunction | undefined }) {
    this.#rejectUnauthorized = rejectUnauthorized;
    this.#pace = pace;
    this.#lookup = lookup ? { lookup } : {};
  }

  /**
   * The answer's head, once its body is in `into` (as much of it as Content-Length said) or was let go; undefined when this server
   * answers in another form than the one above: `send` may understand it. Throws the system's errors, `transient` for what is cut or silent, and what `accept` throws.
   */
  async get(url: string, request: DirectRequest): Promise<Head | undefined> {
    const target = new URL(url);
    if (this.#unfit.has(target.origin)) return undefined;
    const turn = await this.#pace.enter(target.origin, request.signal);
    const accept = (head: Head) => {
      turn.answered(head.status, head.headers);
      return request.accept(head);
    };
    try {
      return await this.#getInTurn(target, { ...request, accept });
    } finally {
      turn.leave();
    }
  }

  async #getInTurn(target: URL, request: DirectRequest): Promise<Head | undefined> {
    while (!this.#unfit.has(target.origin)) {
      const idle = this.#idle.get(target.origin)?.pop();
      const connection = idle ?? this.#connect(target);
      try {
        const head = await connection.get(target, request);
        if (connection.reusable) this.#keep(target.origin, connection);
        if (head === undefined) this.#unfit.add(target.origin);
        return head;
      } catch (error) {
        // A server may close a connection that waits, in the very moment it is used again: that was no try.
        if (idle === undefined || connection.answered || request.signal.aborted) throw error;
      }
    }
    return undefined;
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
    const connection = new Connection(
      this.#pace.in,
      (onread) => {
        if (!secure) return { socket: connectTcp({ host, port, onread, ...this.#lookup }), ready: 'connect' };
        const tls: ConnectionOptions & { onread: OnReadOpts } = {
          host,
          port,
          onread,
          ...this.#lookup,
          ALPNProtocols: ['http/1.1'],
          rejectUnauthorized: this.#rejectUnauthorized,
          ...(isIP(host) ? {} : { servername: host }),
        };
        return { socket: connectTls(tls), ready: 'secureConnect' };
      },
      onClose,
    );
    this.#open.add(connection);
    return connection;
  }
}
