import { connect as connectTcp, isIP, type LookupFunction, type OnReadOpts } from 'node:net';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import type { Turn } from '../transfer/governor.ts';
import type { Pace } from '../transfer/pace.ts';
import { AnswerReader } from './answer-reader.ts';
import { Connection, type Message } from './connection.ts';
import { type Head, requestText } from './message.ts';
import { type RangeOptions, RangeReader } from './range-reader.ts';

interface Common {
  headers: Record<string, string>;
  signal: AbortSignal;
  /** ms */
  stallTimeout: number;
}

export interface DirectRequest extends Common, RangeOptions {}

/** A write that may be done twice as well as once: it has no condition. */
export interface DirectWrite extends Common {
  body: Uint8Array;
}

/** An answer, its body read whole. */
export interface WholeAnswer extends Head {
  body: Buffer;
}

/**
 * GETs whose bodies the kernel writes straight into the buffer that they are meant for, and PUTs straight from one. node:http makes two new buffers for every
 * 64 KiB that comes in and copies twice: 2.6 s of CPU for a GiB on loopback, where this takes 0.5 s; and a PUT costs it 150 us, which are 40 here. Only
 * what bulk ranges and writes need is here: HTTP/1.1, keep-alive, TLS; no proxies, no redirects. For all else there is `send`.
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
  async get(url: string, { into, accept, onBytes, ...request }: DirectRequest): Promise<Head | undefined> {
    const target = new URL(url);
    return await this.#inTurn(target, request, async (turn) => {
      const judge = (head: Head) => {
        turn.answered(head.status, head.headers);
        return accept(head);
      };
      const options = { into, accept: judge, onBytes };
      const text = requestText('GET', target, request.headers);
      const asked = await this.#ask(target, { ...request, url, text, reader: (heads) => new RangeReader(options, heads, url) });
      return asked === 'unheard' ? undefined : asked;
    });
  }

  /**
   * The answer to a PUT; undefined when this server does not speak HTTP/1.1, and `unheard` when it ended the connection before it had taken all of the body, which
   * is how some refuse it: what it said is lost, and `send` may hear it with care. Throws as `get` does.
   */
  async put(target: URL, { body, headers, ...request }: DirectWrite): Promise<WholeAnswer | 'unheard' | undefined> {
    const url = target.href;
    return await this.#inTurn(target, request, async (turn) => {
      let answer: AnswerReader | undefined;
      const reader: Message['reader'] = (heads) => {
        answer = new AnswerReader(heads, url);
        return answer;
      };
      const text = requestText('PUT', target, { 'content-length': String(body.length), ...headers });
      const head = await this.#ask(target, { ...request, url, text, body, reader });
      if (head === undefined || head === 'unheard' || answer === undefined) return head === 'unheard' ? head : undefined;
      turn.answered(head.status, head.headers);
      return { ...head, body: answer.body };
    });
  }

  /** Undefined for a server that has answered in another form before. */
  async #inTurn<T>(target: URL, { signal }: Pick<Common, 'signal'>, work: (turn: Turn) => Promise<T>): Promise<T | undefined> {
    if (this.#unfit.has(target.origin)) return undefined;
    const turn = await this.#pace.enter(target.origin, signal);
    try {
      return await work(turn);
    } finally {
      turn.leave();
    }
  }

  async #ask(target: URL, message: Message): Promise<Head | 'unheard' | undefined> {
    while (!this.#unfit.has(target.origin)) {
      const idle = this.#idle.get(target.origin)?.pop();
      const connection = idle ?? this.#connect(target);
      try {
        const head = await connection.exchange(message);
        if (connection.reusable) this.#keep(target.origin, connection);
        if (head === undefined) this.#unfit.add(target.origin);
        return head;
      } catch (error) {
        if (message.signal.aborted || connection.answered || !connection.cut) throw error;
        // A server may close a connection that waits, in the very moment it is used again: that was no try.
        if (idle !== undefined) continue;
        if (connection.sent || message.body === undefined) throw error;
        return 'unheard';
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
      this.#pace,
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
