import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { DirectConnections, type DirectRequest, type DirectWrite } from '../lib/direct/connections.ts';
import type { Log } from '../lib/log.ts';
import { Pace } from '../lib/transfer/pace.ts';
import { trickling } from './fakes/trickle.ts';

/** A server that answers each request with whatever bytes the test says. */
let server: Server;
let url: string;
let answers: ((socket: Socket) => void)[];
let requests: { text: string; socket: Socket }[];
/** True while the server takes nothing. */
let deaf: boolean;
let direct: DirectConnections;
const sockets = new Set<Socket>();

beforeEach(async () => {
  answers = [];
  requests = [];
  deaf = false;
  server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    if (deaf) return;
    socket.on('data', (bytes) => {
      requests.push({ text: bytes.toString(), socket });
      answers.shift()?.(socket);
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/file?signed=1`;
  direct = new DirectConnections({ rejectUnauthorized: true, pace: new Pace() });
});
afterEach(() => {
  direct.destroy();
  for (const socket of sockets) socket.destroy();
  server.close();
});

const write =
  (...pieces: string[]) =>
  async (socket: Socket) => {
    for (const piece of pieces) {
      socket.write(piece);
      await new Promise(setImmediate);
    }
  };
const ok = (body: string, more = '') => `HTTP/1.1 206 Partial Content\r\nContent-Length: ${body.length}\r\n${more}\r\n${body}`;

async function get(length: number, changes: Partial<DirectRequest> = {}) {
  const into = Buffer.alloc(length, '.');
  const pieces: number[] = [];
  const accept = () => true;
  const onBytes = (bytes: number) => pieces.push(bytes);
  const request = { headers: {}, into, accept, onBytes, signal: new AbortController().signal, stallTimeout: 5000, ...changes };
  const head = await direct.get(url, request);
  return { head, text: into.toString(), counted: pieces.reduce((sum, bytes) => sum + bytes, 0) };
}

describe('a GET straight into a buffer', () => {
  test('sends a good request and fills the buffer', async () => {
    answers.push(write(ok('hello', 'ETag: "x"\r\n')));
    const { head, text, counted } = await get(5, { headers: { range: 'bytes=0-4' } });
    expect(text).toBe('hello');
    expect(counted).toBe(5);
    expect(head).toMatchObject({ status: 206, headers: { etag: '"x"', 'content-length': '5' } });
    const host = new URL(url).host;
    expect(requests[0]?.text).toBe(`GET /file?signed=1 HTTP/1.1\r\nhost: ${host}\r\nconnection: keep-alive\r\nrange: bytes=0-4\r\n\r\n`);
  });

  test('takes a head in any pieces, with 1xx before it', async () => {
    answers.push(write('HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r', '\nHTT', 'P/1.1 206 \r\nContent-Le', 'ngth: 6\r\n\r\nab', 'cd', 'ef'));
    expect((await get(6)).text).toBe('abcdef');
  });

  test('uses a connection again, and not after "close"', async () => {
    answers.push(write(ok('one')), write(ok('two', 'Connection: close\r\n')), write(ok('six')));
    expect([(await get(3)).text, (await get(3)).text, (await get(3)).text]).toEqual(['one', 'two', 'six']);
    expect(requests[1]?.socket).toBe(requests[0]?.socket);
    expect(requests[2]?.socket).not.toBe(requests[0]?.socket);
  });

  test('a waiting connection that the server has closed is no failure', async () => {
    answers.push(write(ok('one')), (socket) => socket.destroy(), write(ok('two')));
    await get(3);
    expect((await get(3)).text).toBe('two');
  });

  test('a short body is what Content-Length says, the rest of the buffer stays', async () => {
    answers.push(write(ok('ab')));
    expect(await get(5)).toMatchObject({ text: 'ab...', counted: 2 });
  });

  test.each([
    ['chunked', 'HTTP/1.1 206 X\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n'],
    ['without a length', 'HTTP/1.1 206 X\r\n\r\nabc'],
    ['longer than the buffer', ok('abcdef')],
    ['in no HTTP/1.1', 'SSH-2.0-OpenSSH\r\n\r\n'],
    ['of an old version', 'HTTP/1.0 206 X\r\nContent-Length: 3\r\n\r\nabc'],
    ['with a folded header', 'HTTP/1.1 206 X\r\nA: b\r\n c\r\nContent-Length: 3\r\n\r\nabc'],
    ['with two lengths', 'HTTP/1.1 206 X\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc'],
    ['whose head has no end', `HTTP/1.1 206 X\r\nA: ${'a'.repeat(70_000)}`],
  ])('an answer %s is not read here, and the server not asked again', async (_, answer) => {
    answers.push(write(answer));
    expect(await get(3)).toEqual({ head: undefined, text: '...', counted: 0 });
    expect(await get(3)).toEqual({ head: undefined, text: '...', counted: 0 });
    expect(requests).toHaveLength(1);
  });

  test.each([
    ['short', 3, true],
    ['long', 100_000, false],
  ])('a head that is not wanted is told; its body is let go, and the connection with it when the body is %s', async (_, length, kept) => {
    answers.push(write(`HTTP/1.1 403 Forbidden\r\nContent-Length: ${length}\r\n\r\n`, 'n'.repeat(length)), write(ok('yes')));
    const refused = await get(3, { accept: ({ status }) => status === 206 });
    expect(refused).toMatchObject({ head: { status: 403 }, text: '...', counted: 0 });
    expect((await get(3)).text).toBe('yes');
    expect(requests[1]?.socket === requests[0]?.socket).toBe(kept);
  });

  test('what the judge throws ends the request', async () => {
    answers.push(write(ok('abc')));
    const accept = () => {
      throw new Error('wrong etag');
    };
    await expect(get(3, { accept })).rejects.toThrow('wrong etag');
  });

  test.each([
    ['a body that is cut', (socket: Socket) => socket.end('HTTP/1.1 206 X\r\nContent-Length: 9\r\n\r\nabc')],
    ['a connection that is closed before an answer', (socket: Socket) => socket.end()],
    ['more than the length', write(`${ok('abc')}d`)],
    ['silence', () => {}],
  ])('%s is transient', async (_, answer) => {
    answers.push(answer as (socket: Socket) => void);
    await expect(get(9, { stallTimeout: 100 })).rejects.toMatchObject({ kind: 'transient' });
  });

  test('a head that only trickles is given up', async () => {
    answers.push(trickling(`HTTP/1.1 206 X\r\nContent-Length: 9\r\nA: ${'a'.repeat(10_000)}\r\n\r\n`, 2));
    await expect(get(9, { stallTimeout: 100 })).rejects.toThrow('only trickling');
  });

  test('a refused connection is the system error', async () => {
    server.close();
    direct.destroy();
    await expect(get(3)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });

  test('the signal ends it, in the middle of the body', async () => {
    const stop = new AbortController();
    answers.push(write('HTTP/1.1 206 X\r\nContent-Length: 9\r\n\r\nabc'));
    const done = get(9, { signal: stop.signal, onBytes: () => stop.abort(new Error('stopped')) });
    await expect(done).rejects.toThrow('stopped');
  });

  test('bytes that nobody asked for never reach the next buffer', async () => {
    answers.push(write(ok('abc')), write(ok('yes')));
    await get(3);
    requests[0]?.socket.write('HTTP/1.1 206 X\r\nContent-Length: 3\r\n\r\nbad');
    await expect.poll(() => requests[0]?.socket.destroyed, { interval: 1 }).toBe(true);
    expect((await get(3)).text).toBe('yes');
  });

  test('a header with a line break is not sent', async () => {
    await expect(get(3, { headers: { authorization: 'Bearer x\r\nHost: evil' } })).rejects.toMatchObject({ kind: 'usage' });
    expect(requests).toEqual([]);
  });
});

/** How much the system takes of a body that nobody reads is less. */
const large = 32 * 1024 ** 2;

async function put(body: Uint8Array = Buffer.from('hello'), changes: Partial<DirectWrite> = {}) {
  const answer = await direct.put(new URL(url), {
    headers: {},
    body,
    signal: new AbortController().signal,
    stallTimeout: 5000,
    ...changes,
  });
  return typeof answer === 'object' ? { ...answer, body: answer.body.toString() } : answer;
}

describe('a PUT straight from a buffer', () => {
  test('sends a good request, and uses the connection again', async () => {
    answers.push(write('HTTP/1.1 200 OK\r\nETag: "x"\r\nContent-Length: 0\r\n\r\n'), write('HTTP/1.1 204 No Content\r\n\r\n'));
    expect(await put(Buffer.from('hello'), { headers: { 'x-amz-meta-a': 'b' } })).toMatchObject({
      status: 200,
      headers: { etag: '"x"' },
      body: '',
    });
    const host = new URL(url).host;
    const head = `PUT /file?signed=1 HTTP/1.1\r\nhost: ${host}\r\nconnection: keep-alive\r\ncontent-length: 5\r\nx-amz-meta-a: b\r\n\r\n`;
    expect(requests[0]?.text).toBe(`${head}hello`);
    expect(await put(Buffer.alloc(0))).toMatchObject({ status: 204, body: '' });
    expect(requests[1]).toMatchObject({ text: expect.stringMatching(/content-length: 0\r\n\r\n$/), socket: requests[0]?.socket });
  });

  test('sends a large body whole', async () => {
    answers.push((socket) => {
      let come = requests[0]?.text.replace(/^.*?\r\n\r\n/s, '').length ?? 0;
      socket.on('data', (bytes) => {
        come += bytes.length;
        if (come === large) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
      });
    });
    expect(await put(Buffer.alloc(large, 'ab'))).toMatchObject({ status: 200 });
    expect(requests.map(({ text }) => text.replace(/^.*?\r\n\r\n/s, '')).join('')).toBe('ab'.repeat(large / 2));
  });

  test.each([
    ['of a length', 'Content-Length: 6\r\n\r\n<No/>\n'],
    ['in chunks', 'Transfer-Encoding: chunked\r\n\r\n2\r\n<N\r\n4;x=y\r\no/>\n\r\n0\r\n\r\n'],
    ['in chunks with trailers', 'Transfer-Encoding: Chunked\r\n\r\n6\r\n<No/>\n\r\n0\r\nA: b\r\nC: d\r\n\r\n'],
  ])('reads an answer %s, in any pieces', async (_, answer) => {
    const whole = `HTTP/1.1 403 Forbidden\r\n${answer}`;
    for (const size of [1, 7, 1000]) {
      const pieces = Array.from({ length: Math.ceil(whole.length / size) }, (_, i) => whole.slice(i * size, (i + 1) * size));
      answers.push(write('HTTP/1.1 102 Processing\r\n\r\n', ...pieces));
      expect(await put()).toMatchObject({ status: 403, body: '<No/>\n' });
    }
    expect(new Set(requests.map(({ socket }) => socket)).size).toBe(1);
  });

  test('reads an answer that ends with its connection, and opens another for the next', async () => {
    answers.push((socket) => socket.end('HTTP/1.1 500 Oh\r\n\r\n<No/>'), write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'));
    expect(await put()).toMatchObject({ status: 500, body: '<No/>' });
    expect(await put()).toMatchObject({ status: 200 });
    expect(requests[1]?.socket).not.toBe(requests[0]?.socket);
  });

  test.each([
    ['more than its length', 'Content-Length: 0\r\n\r\nx'],
    ['a chunk of no size', 'Transfer-Encoding: chunked\r\n\r\nx\r\n'],
    ['a chunk that is longer than it says', 'Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n'],
    ['something behind the chunks', 'Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nx'],
    ['a body without end', `Transfer-Encoding: chunked\r\n\r\nffffff\r\n${'a'.repeat(70_000)}`],
  ])('an answer with %s is transient', async (_, answer) => {
    answers.push(write(`HTTP/1.1 200 OK\r\n${answer}`));
    await expect(put()).rejects.toMatchObject({ kind: 'transient' });
  });

  test.each([
    ['a length', 'Content-Length: 9\r\n\r\nabc'],
    ['chunks', 'Transfer-Encoding: chunked\r\n\r\n9\r\nabc'],
  ])('an answer of %s that is cut is transient', async (_, answer) => {
    answers.push((socket) => socket.end(`HTTP/1.1 200 OK\r\n${answer}`));
    await expect(put()).rejects.toMatchObject({ kind: 'transient', message: expect.stringContaining('was closed') });
  });

  test('what is no HTTP/1.1 is not read here, and the server not asked again', async () => {
    answers.push(write('HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n'));
    expect(await put()).toBeUndefined();
    expect(await put()).toBeUndefined();
    expect(requests).toHaveLength(1);
  });

  test('an answer before the body has gone out is heard; nothing follows on that connection', async () => {
    answers.push((socket) => {
      socket.pause();
      socket.write('HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno');
    });
    answers.push(write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'));
    expect(await put(Buffer.alloc(large))).toMatchObject({ status: 403, body: 'no' });
    requests.length = 0;
    expect(await put()).toMatchObject({ status: 200 });
    expect(requests[0]?.text).toMatch(/^PUT/);
  });

  test('a connection that ends before it has taken the body is unheard', async () => {
    answers.push((socket) => socket.resetAndDestroy());
    expect(await put(Buffer.alloc(large))).toBe('unheard');
  });

  test('one that ends behind the body is transient', async () => {
    answers.push((socket) => socket.destroy());
    await expect(put()).rejects.toMatchObject({ kind: 'transient' });
  });

  test('a waiting connection that the server has closed is no failure', async () => {
    const good = write('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
    answers.push(good, (socket) => socket.resetAndDestroy(), good);
    await put();
    expect(await put()).toMatchObject({ status: 200 });
  });

  test.each([
    ['that is silent', 5],
    ['that takes no more', large],
  ])('a server %s is given up', async (_, length) => {
    deaf = true;
    await expect(put(Buffer.alloc(length), { stallTimeout: 100 })).rejects.toMatchObject({ kind: 'transient' });
  });

  test('an answer that only trickles is given up', async () => {
    answers.push(trickling(`HTTP/1.1 200 OK\r\nContent-Length: 0\r\nA: ${'a'.repeat(10_000)}\r\n\r\n`, 2));
    await expect(put(Buffer.from('x'), { stallTimeout: 100 })).rejects.toThrow('only trickling');
  });

  test('the signal ends it in the middle of the body', async () => {
    const stop = new AbortController();
    answers.push((socket) => {
      socket.pause();
      stop.abort(new Error('stopped'));
    });
    await expect(put(Buffer.alloc(large), { signal: stop.signal })).rejects.toThrow('stopped');
  });

  test('a store that asks for less is asked less', async () => {
    const told: number[] = [];
    const pace = new Pace({ log: { warn: ({ requests }: { requests: number }) => told.push(requests) } as unknown as Log });
    direct.destroy();
    direct = new DirectConnections({ rejectUnauthorized: true, pace });
    answers.push(write('HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n'));
    expect(await put()).toMatchObject({ status: 503 });
    expect(told).toEqual([1]);
  });
});
