import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { makeCertificate } from './fakes/certificate.ts';
import { FakeHub } from './fakes/hub.ts';
import { Meddler } from './fakes/meddler.ts';
import { tinyLlama } from './fakes/model.ts';
import { Program } from './fakes/program.ts';
import { FakeRegistry } from './fakes/registry.ts';
import { FakeS3 } from './fakes/s3.ts';
import type { FakeServer, ListenOptions } from './fakes/server.ts';

/** Every hop of an import: Hub, CDN, S3 and registry. */
class Hops {
  readonly hub = new FakeHub();
  readonly s3 = new FakeS3();
  readonly registry = new FakeRegistry();

  async open(options: ListenOptions): Promise<this> {
    await Promise.all([this.hub.listen(options), this.s3.listen(options), this.registry.listen(options)]);
    this.hub.addRepo({ id: 'acme/model', files: tinyLlama({ shardBytes: 6_000_000 }) });
    this.s3.createBucket('models');
    return this;
  }

  async close(): Promise<void> {
    await Promise.all([this.hub.close(), this.s3.close(), this.registry.close()]);
  }

  get origins(): string[] {
    return [this.hub.origin, this.hub.cdn.origin, this.s3.origin, this.registry.origin];
  }

  get servers(): FakeServer[] {
    return [this.hub.hub, this.hub.cdn, this.s3, this.registry.server];
  }

  /** The built import, through all hops; its log when it does not end well. */
  async import(env: Record<string, string>): Promise<string> {
    const ended = await this.run('import', { MODEL_REGISTRY_URL: this.registry.origin, ...env });
    const live = this.registry.records('artifact')[0]?.state === 'LIVE';
    return ended === 'done' && !live ? 'nothing is registered' : ended;
  }

  /** A built program, with a workspace that nobody has used; its log when it does not end well, or nothing is published. */
  async run(program: string, env: Record<string, string>): Promise<string> {
    const { accessKeyId, secretAccessKey } = this.s3.credentials;
    const { exitCode, stderr } = await new Program(program, [], {
      MODEL_ID: 'acme/model',
      WORKSPACE: await mkdtemp(join(dir, 'workspace-')),
      HF_ENDPOINT: this.hub.origin,
      S3_BUCKET: 'models',
      S3_ENDPOINT: this.s3.origin,
      S3_PATH_STYLE: 'true',
      AWS_ACCESS_KEY_ID: accessKeyId,
      AWS_SECRET_ACCESS_KEY: secretAccessKey,
      PART_SIZE: '5MiB',
      ...env,
    }).ended;
    this.stderr = stderr;
    const published = this.s3.keys('models', '.modelferry/manifests/').length > 0;
    return exitCode === 0 && published ? 'done' : `exit ${exitCode}: ${stderr}`;
  }

  /** Of the last program. */
  stderr = '';
}

let dir: string;
let hops: Hops | undefined;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'network-'));
});
afterEach(async () => {
  await hops?.close();
  hops = undefined;
  await rm(dir, { recursive: true });
});

const certificate = makeCertificate();

describe.runIf(certificate)('TLS that breaks in the handshake', () => {
  test('is tried again, before a registry as well', async () => {
    hops = await new Hops().open({ tls: certificate! });
    const bundle = join(dir, 'ca.pem');
    await writeFile(bundle, certificate!.cert);
    const meddler = await new Meddler(hops.registry.origin, { times: 1, spoilAfter: 100 }).listen();
    expect(await hops.import({ CA_BUNDLE: bundle, MODEL_REGISTRY_URL: meddler.origin })).toBe('done');
    expect(meddler.met).toBe(1);
    await meddler.close();
  });
});

describe.runIf(certificate)('a private authority', () => {
  test('is trusted on every hop by one bundle, and on none without it', async () => {
    hops = await new Hops().open({ tls: certificate! });
    const bundle = join(dir, 'ca.pem');
    await writeFile(bundle, certificate!.cert);
    expect(await hops.import({})).toMatch(/^exit 2: .*--ca-bundle/s);
    expect(await hops.import({ CA_BUNDLE: bundle })).toBe('done');
    for (const program of ['fetch', 'verify']) expect(await hops.run(program, { CA_BUNDLE: bundle, RETRIES: '0' }), program).toBe('done');
    expect(await hops.run('fetch', {})).toMatch(/^exit 2: .*--ca-bundle/s);
  });

  test('may be left unverified on every hop, with a warning', async () => {
    hops = await new Hops().open({ tls: certificate! });
    expect(await hops.import({ INSECURE_SKIP_TLS_VERIFY: 'true' })).toBe('done');
    expect(hops.stderr).toMatch(/"level":"warn".*certificates are not verified/);
    expect(await hops.run('fetch', { INSECURE_SKIP_TLS_VERIFY: 'true' })).toBe('done');
    expect(hops.stderr).toMatch(/"level":"warn".*certificates are not verified/);
  });
});

const tinyproxy = ['/usr/bin/tinyproxy', '/usr/sbin/tinyproxy'].find(existsSync);

/** A real proxy (Debian has it as tinyproxy), for who knows `user password`; `log` is what it says of its requests. */
async function startProxy(auth?: string): Promise<{ origin: string; log: () => Promise<string>; stop: () => Promise<void> }> {
  const port = await freePort();
  const [config, log] = [join(dir, 'tinyproxy.conf'), join(dir, 'tinyproxy.log')];
  await writeFile(
    config,
    `Port ${port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 100\nLogFile "${log}"\nLogLevel Connect\n${auth ? `BasicAuth ${auth}\n` : ''}`,
  );
  const child: ChildProcess = spawn(tinyproxy ?? '', ['-d', '-c', config], { stdio: 'ignore' });
  while (child.exitCode === null && !(await listens(port))) await sleep(20);
  const stop = async () => {
    child.kill();
    await once(child, 'exit');
  };
  return { origin: `http://127.0.0.1:${port}`, log: () => readFile(log, 'utf8'), stop };
}

describe.runIf(tinyproxy)('a real proxy', () => {
  test.runIf(certificate)('tunnels every hop, and none that NO_PROXY names', async () => {
    hops = await new Hops().open({ tls: certificate! });
    const bundle = join(dir, 'ca.pem');
    await writeFile(bundle, certificate!.cert);
    const proxy = await startProxy();
    try {
      const env = { CA_BUNDLE: bundle, HTTPS_PROXY: proxy.origin };
      const s3Host = new URL(hops.s3.origin).host;
      expect(await hops.import({ ...env, NO_PROXY: s3Host })).toBe('done');
      for (const origin of hops.origins) {
        const { host } = new URL(origin);
        expect((await proxy.log()).includes(`CONNECT ${host}`), host).toBe(host !== s3Host);
      }
      const before = (await proxy.log()).length;
      expect(await hops.import({ ...env, NO_PROXY: '127.0.0.1,localhost' })).toBe('done');
      expect((await proxy.log()).slice(before)).not.toContain('CONNECT');
      // A model from the store, and streamed from the Hub into it.
      const tunnels = async (program: string, more: Record<string, string>) => {
        const from = (await proxy.log()).length;
        expect(await hops?.run(program, { ...env, ...more }), program).toBe('done');
        const log = (await proxy.log()).slice(from);
        return hops?.origins.map((origin) => log.includes(`CONNECT ${new URL(origin).host}`));
      };
      expect(await tunnels('fetch', {})).toEqual([false, false, true, false]);
      expect(await tunnels('fetch', { S3_BUCKET: '' })).toEqual([true, true, false, false]);
      expect(await tunnels('sync', { MODEL_NAME: 'other' })).toEqual([true, true, true, false]);
    } finally {
      await proxy.stop();
    }
  });

  test.each([['http', 'HTTP_PROXY'], ...(certificate === undefined ? [] : [['https', 'HTTPS_PROXY'] as const])] as const)(
    'that wants a password for %s gets it, and nobody else does',
    async (scheme, name) => {
      hops = await new Hops().open(scheme === 'https' ? { tls: certificate! } : {});
      const proxy = await startProxy('ferry passw0rdofproxy');
      try {
        const env = { LOG_LEVEL: 'trace', INSECURE_SKIP_TLS_VERIFY: String(scheme === 'https') };
        const address = (password: string) => proxy.origin.replace('//', `//ferry:${password}@`);
        expect(await hops.import({ ...env, [name]: address('passw0rdofproxy') })).toBe('done');
        expect(await hops.run('sync', { ...env, [name]: proxy.origin })).toMatch(/^exit 4: .*the proxy refuses it \(407\)/s);
        // Over plain http this proxy answers with the 401 of a server.
        if (scheme === 'https')
          expect(await hops.run('sync', { ...env, [name]: address('an0therpassw0rd') })).toMatch(/^exit 4: .*the proxy refuses it/s);
      } finally {
        await proxy.stop();
      }
    },
  );

  test('carries plain http too', async () => {
    hops = await new Hops().open({});
    const proxy = await startProxy();
    try {
      expect(await hops.import({ HTTP_PROXY: proxy.origin })).toBe('done');
      for (const origin of hops.origins) expect(await proxy.log()).toContain(new URL(origin).host);
    } finally {
      await proxy.stop();
    }
  });
});

const hasIpv6 = Object.values(networkInterfaces()).some((addresses) => addresses?.some(({ address }) => address === '::1'));

test.runIf(hasIpv6)('every hop may be an IPv6 address', async () => {
  hops = await new Hops().open({ host: '::1' });
  expect(hops.origins.every((origin) => origin.includes('[::1]'))).toBe(true);
  expect(await hops.import({})).toBe('done');
});

test('servers that close their connections between requests are no trouble', async () => {
  hops = await new Hops().open({ idleMs: 1 });
  expect(await hops.import({ CONCURRENCY: '2' })).toBe('done');
});

describe.each([['plain', {}], ...(certificate === undefined ? [] : [['TLS', { tls: certificate }] as const])] as const)(
  'over %s, connections that end in the moment they are used again',
  (_, options) => {
    test('cost no try, whether they were to bring or to take', async () => {
      hops = await new Hops().open({ ...options, cutsReuse: true });
      const env = { INSECURE_SKIP_TLS_VERIFY: String('tls' in options), CONCURRENCY: '2', RETRIES: '0' };
      expect(await hops.import(env)).toBe('done');
      expect(hops.servers.map(({ reusesCut }) => reusesCut > 0)).toEqual([true, true, true, true]);
      expect(await hops.run('fetch', env)).toBe('done');
      expect(await hops.run('sync', { ...env, REPLACE: 'true', IGNORE_PATTERNS: '*.txt' })).toBe('done');
    });
  },
);

async function listens(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}
