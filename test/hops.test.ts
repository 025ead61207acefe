import { networkInterfaces } from 'node:os';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { zoneOfAddress } from '../lib/addresses.ts';
import { kindOf } from '../lib/errors.ts';
import { follow, hubOf } from '../lib/hub/connection.ts';
import { nextHop } from '../lib/hub/hops.ts';
import { RemoteFile } from '../lib/hub/remote-file.ts';
import { sha256Of } from '../lib/integrity.ts';
import { closeNetwork, setUpNetwork } from '../lib/network.ts';
import { FakeDns } from './fakes/dns.ts';
import { FakeServer } from './fakes/server.ts';

const refusal = (hub: string, location: string, zone?: 'public' | 'private') => {
  try {
    return nextHop({ url: hub, stands: { zone } }, `${hub}/acme/model/resolve/main/config.json`, location);
  } catch (error) {
    return kindOf(error);
  }
};

describe('a redirect of the Hub', () => {
  test.each([
    'http://127.0.0.1/x',
    'http://127.1/x',
    'http://2130706433/x',
    'http://0x7f.0.0.1:9000/',
    'http://localhost:8080/x',
    'http://a.localhost./x',
    'http://[::1]/x',
    'http://[::ffff:127.0.0.1]/x',
    'http://0.0.0.0/x',
    'http://169.254.169.254/latest/meta-data/',
    'http://[::ffff:169.254.169.254]/',
    'http://[fe80::1]/',
    'http://[fd00:ec2::254]/',
    'http://10.1.2.3/bucket/x',
    'http://172.16.0.1/x',
    'http://192.168.1.1/x',
    'http://[fd12::1]/x',
  ])('to %s is refused, but for a Hub that is there', (location) => {
    expect(refusal('https://huggingface.co', location)).toBe('refused');
    expect(refusal(new URL(location).origin, location)).toBe(new URL(location).href);
  });

  test.each(['https://cdn.example.com/x?signature=1', 'http://172.32.0.1/x', '/api/other', 'http://[2001:db8::1]/x'])(
    'to %s is followed',
    (location) => {
      expect(refusal('https://huggingface.co', location)).toBe(new URL(location, 'https://huggingface.co').href);
    },
  );

  test('to a private address is followed when the Hub itself is inside, whatever its name; to this machine never', () => {
    expect(refusal('https://hub.example.com', 'http://10.1.2.3/x', 'private')).toBe('http://10.1.2.3/x');
    expect(refusal('https://hub.example.com', 'http://10.1.2.3/x', 'public')).toBe('refused');
    expect(refusal('https://hub.example.com', 'http://127.0.0.1/x', 'private')).toBe('refused');
  });

  test.each(['file:///etc/passwd', 'http://[', 'ftp://host/x', 'javascript:1'])('to %s leads nowhere', (location) => {
    expect(refusal('https://huggingface.co', location)).toBe('usage');
  });
});

/** An address of this machine that others reach it by. */
const outward = Object.values(networkInterfaces())
  .flatMap((list) => list ?? [])
  .find(({ internal, family, address }) => !internal && family === 'IPv4' && zoneOfAddress(address) === 'private')?.address;

describe('a redirect to a name', () => {
  const bytes = Buffer.from('weights');
  let dns: FakeDns;
  /** Answers for the Hub, and for where it leads to. */
  const server = new FakeServer(async (request, response) => {
    const direct = request.url === '/direct';
    if (direct) response.writeHead(206, { 'content-length': bytes.length, 'content-range': `bytes 0-6/${bytes.length + 1}` }).end(bytes);
    else response.writeHead(302, { location: where, 'content-length': 0 }).end();
  });
  let where = '';
  beforeEach(async () => {
    dns = await new FakeDns().listen();
    setUpNetwork({ lookup: dns.lookup() });
  });
  afterEach(async () => {
    closeNetwork();
    await Promise.all([dns.close(), server.close()]);
  });

  const signal = new AbortController().signal;
  const hubAt = (hubUrl: string) => hubOf({ hubUrl, retries: 0, stallTimeout: 2000 }, { log: pino({ level: 'silent' }), signal });
  const read = async (hubUrl: string) => {
    const size = bytes.length + 1;
    const file = new RemoteFile(hubAt(hubUrl), 'acme/model', 'a'.repeat(40), { path: 'x', size, sha256: sha256Of(bytes) });
    const into = Buffer.alloc(bytes.length);
    await file.read(0, into, () => {}, signal);
    return into;
  };
  const portOf = () => new URL(server.origin).port;

  test.each([
    ['cdn.test', ['169.254.169.254']],
    ['cdn.test', ['169.254.1.1', '169.254.169.254']],
  ])('that means the metadata service is refused before anything is sent (%s: %j)', async (name, addresses) => {
    await server.listen();
    dns.answers[name] = [addresses];
    where = `http://${name}:${portOf()}/direct`;
    const refused = {
      kind: 'refused',
      message: expect.stringMatching(/^failed to reach cdn\.test: it is 169\.254\.\d+\.\d+, a link-local address/),
    };
    await expect(read(server.origin)).rejects.toMatchObject(refused);
    // The other way, by node:http, which small answers take.
    await expect(follow(hubAt(server.origin), `${server.origin}/api`, {}, signal)).rejects.toMatchObject(refused);
    expect(server.seen(/direct/)).toEqual([]);
  });

  test('is asked for once a connection: what was checked is what is connected to', async () => {
    await server.listen();
    // The next question gets another answer, as a name server does that wants to get past a check.
    dns.answers['cdn.test'] = [['127.0.0.1'], ['169.254.169.254']];
    where = `http://cdn.test:${portOf()}/direct`;
    expect((await read(server.origin)).equals(bytes)).toBe(true);
    expect(dns.asked).toEqual(['cdn.test']);
    closeNetwork();
    setUpNetwork({ lookup: dns.lookup() });
    await expect(read(server.origin)).rejects.toMatchObject({ kind: 'refused' });
  });

  test('of a good address among bad ones goes to the good one', async () => {
    await server.listen();
    dns.answers['cdn.test'] = [['169.254.1.1', '127.0.0.1']];
    where = `http://cdn.test:${portOf()}/direct`;
    expect((await read(server.origin)).equals(bytes)).toBe(true);
  });

  test.runIf(outward)('that means this machine is refused to a Hub elsewhere, and its own addresses are not', async () => {
    await server.listen({ host: '0.0.0.0' });
    dns.answers['hub.test'] = [[outward ?? '']];
    dns.answers['cdn.test'] = [['127.0.0.1']];
    dns.answers['mirror.test'] = [[outward ?? '']];
    where = `http://cdn.test:${portOf()}/direct`;
    await expect(read(`http://hub.test:${portOf()}`)).rejects.toMatchObject({ kind: 'refused' });
    where = `http://mirror.test:${portOf()}/direct`;
    expect((await read(`http://hub.test:${portOf()}`)).equals(bytes)).toBe(true);
  });
});
