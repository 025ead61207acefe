import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { afterEach, describe, expect, test } from 'vitest';
import { readBody } from '../lib/http/answer.ts';
import { send } from '../lib/http/request.ts';
import { closeNetwork, setUpNetwork } from '../lib/network.ts';
import { makeCertificate } from './fakes/certificate.ts';
import { trickling } from './fakes/trickle.ts';

const certificate = makeCertificate();
const ends: (() => unknown)[] = [];
afterEach(async () => {
  closeNetwork();
  for (const end of ends.splice(0)) await end();
});

/** A server that does as the test says with each connection that has asked for something; returns its origin. */
async function serving(answer: (socket: Socket) => void, tls?: { key: string; cert: string }): Promise<string> {
  const sockets = new Set<Socket>();
  const onConnection = (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.once('data', () => answer(socket));
  };
  const server = tls ? createTlsServer(tls, onConnection) : createServer(onConnection);
  await once(server.listen(0, '127.0.0.1'), 'listening');
  ends.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return `${tls ? 'https' : 'http'}://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

const slowHead = trickling(`HTTP/1.1 200 OK\r\nContent-Length: 0\r\nA: ${'a'.repeat(10_000)}\r\n\r\n`, 5);

describe('the watch over a request', () => {
  test.each(['GET', 'PUT', 'POST'])('ends a %s whose answer comes one byte of its head after the other', async (method) => {
    const url = await serving(slowHead);
    const body = method === 'GET' ? undefined : Buffer.alloc(1000);
    await expect(send(url, { method, body, stallTimeout: 200 })).rejects.toMatchObject({
      kind: 'transient',
      message: expect.stringContaining('only trickling'),
    });
  });

  test.runIf(certificate)('ends it behind TLS too', async () => {
    setUpNetwork({ insecureSkipTlsVerify: true });
    const url = await serving(slowHead, certificate);
    await expect(send(url, { stallTimeout: 200 })).rejects.toThrow('only trickling');
  });

  test('lets a server think that says so in 1xx heads', async () => {
    const url = await serving((socket) => {
      const pieces = [
        'HTTP/1.1 103 Early Hints\r\n\r\n',
        'HTTP/1.1 102 Processing\r\n\r\n',
        'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok',
      ];
      for (const [index, piece] of pieces.entries()) setTimeout(() => socket.write(piece), index * 150);
    });
    expect((await readBody(await send(url, { stallTimeout: 200 }))).toString()).toBe('ok');
  });

  test('lets a body take its time that is long enough, once its head is there', async () => {
    const url = await serving((socket) => {
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n');
      for (let index = 0; index < 5; index += 1) setTimeout(() => socket.write('x'), index * 100);
    });
    // Only GETs are to bring their bytes quickly: a completion of an upload sends blanks while the store works.
    expect((await readBody(await send(url, { method: 'POST', body: '<x/>', stallTimeout: 250 }))).toString()).toBe('xxxxx');
  });

  test('ends a connection that is never made', async () => {
    const text =
      'import socket, time; s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(0); print(s.getsockname()[1], flush=True); time.sleep(60)';
    const deaf = spawn('python3', ['-c', text], { stdio: ['ignore', 'pipe', 'inherit'] });
    ends.push(() => deaf.kill('SIGKILL'));
    const port = Number(String((await once(deaf.stdout, 'data'))[0]).trim());
    // Nobody accepts: the first few fill the queue, and the next one waits for its turn.
    const before = Array.from({ length: 8 }, () => connect(port, '127.0.0.1').on('error', () => {}));
    ends.push(() => before.map((socket) => socket.destroy()));
    await expect(send(`http://127.0.0.1:${port}/`, { stallTimeout: 200 })).rejects.toThrow('silent');
  });
});

test.each([false, true])(
  'a refusal is heard though its server closes before it has read the whole body, with care from the start: %s',
  async (careful) => {
    // As versitygw does behind its first 4 MiB: what is still coming in then is answered by a reset.
    const program = `
import socket, struct
server = socket.socket(); server.bind(("127.0.0.1", 0)); server.listen(8)
print(server.getsockname()[1], flush=True)
while True:
    peer, _ = server.accept()
    try:
        left = 1 << 20
        while left > 0: left -= len(peer.recv(min(left, 65536))) or left
        peer.sendall(b"HTTP/1.1 404 Not Found\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
    except OSError: pass
    peer.close()
`;
    const server = spawn('python3', ['-c', program], { stdio: ['ignore', 'pipe', 'inherit'] });
    ends.push(() => server.kill());
    const [port] = await once(server.stdout, 'data');
    for (let i = 0; i < 10; i += 1) {
      const answer = await send(`http://127.0.0.1:${String(port).trim()}/`, {
        method: 'PUT',
        body: Buffer.alloc(8 * 1024 ** 2),
        stallTimeout: 5000,
        careful,
      });
      await readBody(answer);
      expect(answer.status).toBe(404);
    }
  },
);
