import { createSocket, type Socket } from 'node:dgram';
import { Resolver } from 'node:dns/promises';
import { isIPv6, type LookupFunction } from 'node:net';

/** What a name resolves to, one answer a question, the last one from then on; `fail`: SERVFAIL. Names that are not there are NXDOMAIN. */
export type Answers = Record<string, readonly (readonly string[] | 'fail')[]>;

/** A name server on this machine (RFC 1035): A and AAAA. */
export class FakeDns {
  readonly answers: Answers = {};
  /** Names that were asked for their A records, in order. */
  readonly asked: string[] = [];
  #socket: Socket | undefined;
  readonly #seen = new Map<string, number>();

  /** `port` 53 is what a resolv.conf can name; it needs root. */
  async listen(address = '127.0.0.1', port = 0): Promise<this> {
    const socket = createSocket('udp4');
    this.#socket = socket;
    socket.on('message', (query, { port: to, address: back }) => socket.send(this.#answer(query), to, back));
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject);
      socket.bind(port, address, resolve);
    });
    return this;
  }

  async close(): Promise<void> {
    await new Promise<void>((resolve) => (this.#socket ? this.#socket.close(() => resolve()) : resolve()));
  }

  /** For connections of this process: every one asks this server anew. */
  lookup(): LookupFunction {
    const resolver = new Resolver({ timeout: 2000, tries: 1 });
    const { address, port } = this.#socket?.address() ?? { address: '', port: 0 };
    resolver.setServers([`${address}:${port}`]);
    return (hostname, options, callback) => {
      resolver.resolve4(hostname).then(
        (found) => {
          if (options.all)
            callback(
              null,
              found.map((each) => ({ address: each, family: 4 })),
            );
          else callback(null, found[0] ?? '', 4);
        },
        (error: NodeJS.ErrnoException) => callback(error, ''),
      );
    };
  }

  #answer(query: Buffer): Buffer {
    const labels: string[] = [];
    let at = 12;
    for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
      labels.push(query.toString('latin1', at + 1, at + 1 + length));
      at += length + 1;
    }
    const question = query.subarray(12, at + 5);
    const type = query.readUInt16BE(at + 1);
    const name = labels.join('.').toLowerCase();
    const rows = this.answers[name];
    let found: readonly string[] | 'fail' | undefined;
    if (rows !== undefined && type === 1) {
      this.asked.push(name);
      const seen = this.#seen.get(name) ?? 0;
      this.#seen.set(name, seen + 1);
      found = rows[Math.min(seen, rows.length - 1)];
    }
    const addresses = Array.isArray(found) ? (found as readonly string[]).filter((each) => !isIPv6(each)) : [];
    const code = rows === undefined ? 3 : found === 'fail' ? 2 : 0;
    const head = Buffer.alloc(12);
    query.copy(head, 0, 0, 2);
    head.writeUInt16BE(0x8180 | code, 2);
    head.writeUInt16BE(1, 4);
    head.writeUInt16BE(addresses.length, 6);
    const records = addresses.map((address) => {
      // The name by a pointer to the question, class IN, lives for no time.
      const record = Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0]);
      record.set(address.split('.').map(Number), 12);
      return record;
    });
    return Buffer.concat([head, question, ...records]);
  }
}
