import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Certificate, makeCertificate } from '../fakes/certificate.ts';
import { deafServer } from '../fakes/deaf.ts';
import { FakeDns } from '../fakes/dns.ts';
import { Meddler, type Meddling } from '../fakes/meddler.ts';
import type { Arena, ArenaOptions } from '../torture/arena.ts';

/** What is wrong with more than a request. */
export interface World {
  /** Undefined where this machine cannot have it: then the row says so. */
  options: ArenaOptions | undefined;
  /** Arranges it around the servers. */
  arrange?: (arena: Arena) => Promise<Arranged>;
}

export interface Arranged {
  /** How often it was met so far. */
  met: () => number;
  /** Ends it. */
  lift: () => Promise<void>;
}

const certificate: Certificate | undefined = makeCertificate();

/** A middlebox before Hub, CDN, S3 and registry, all of which speak TLS. */
export function meddledTls(meddling: Meddling): World {
  return {
    options: certificate && { tls: certificate },
    arrange: async (arena) => {
      const before = (origin: string) => new Meddler(origin, { ...meddling }).listen();
      const servers = [arena.hub.origin, arena.hub.cdn.origin, arena.s3.origin, arena.registry.origin];
      const all = await Promise.all(servers.map(before));
      const [hub = '', cdn = '', s3 = '', registry = ''] = all.map(({ origin }) => origin);
      arena.hubOptions.publicCdnUrl = cdn;
      const env: Record<string, string> = { HF_ENDPOINT: hub, S3_ENDPOINT: s3, MODEL_REGISTRY_URL: registry };
      Object.assign(arena.more, env);
      return {
        met: () => all.reduce((sum, { met }) => sum + met, 0),
        lift: async () => {
          for (const one of all) one.meddling = undefined;
          closers.push(async () => await Promise.all(all.map((one) => one.close())));
        },
      };
    },
  };
}

/** What stays open until the end, because the next run goes the same way. */
export const closers: (() => Promise<unknown>)[] = [];

/** Servers whose names nobody knows. */
export function withoutName(variable: 'HF_ENDPOINT' | 'S3_ENDPOINT' | 'MODEL_REGISTRY_URL'): World {
  return {
    options: {},
    // RFC 6761: nothing resolves that ends so.
    arrange: async (arena) => replaced(arena, variable, 'http://nowhere.invalid'),
  };
}

/** A server that takes no connection: its queue is full, and whoever knocks hears nothing. */
export function deaf(variable: 'HF_ENDPOINT' | 'S3_ENDPOINT' | 'MODEL_REGISTRY_URL'): World {
  return {
    options: process.platform === 'linux' ? {} : undefined,
    arrange: async (arena) => {
      const { origin, close } = await deafServer();
      const arranged = replaced(arena, variable, origin);
      return {
        ...arranged,
        lift: async () => {
          await arranged.lift();
          close();
        },
      };
    },
  };
}

function replaced(arena: Arena, variable: string, value: string): Arranged {
  arena.more[variable] = value;
  return {
    // Whoever does not ask there ends well.
    met: () => Number.NaN,
    lift: async () => {
      delete arena.more[variable];
    },
  };
}

/** Its own name server, in a mount namespace of its own: needs root. `answers` as FakeDns has them, for hub.test and cdn.test. */
export function named(answers: (own: readonly string[]) => FakeDns['answers']): World {
  return {
    options: process.getuid?.() === 0 ? {} : undefined,
    arrange: async (arena) => {
      const address = `127.83.${Math.floor(Math.random() * 250)}.${1 + Math.floor(Math.random() * 250)}`;
      const dns = await new FakeDns().listen(address, 53);
      Object.assign(dns.answers, answers(['127.0.0.1']));
      const dir = await mkdtemp(join(tmpdir(), 'resolv-'));
      await writeFile(join(dir, 'resolv.conf'), `nameserver ${address}\noptions attempts:1 timeout:2\n`);
      const before = arena.via;
      arena.via = ['unshare', '--mount', 'sh', '-c', `mount --bind ${dir}/resolv.conf /etc/resolv.conf && exec "$@"`, 'sh'];
      const { port } = new URL(arena.hub.origin);
      const { port: cdnPort } = new URL(arena.hub.cdn.origin);
      arena.more.HF_ENDPOINT = `http://hub.test:${port}`;
      arena.hubOptions.publicCdnUrl = `http://cdn.test:${cdnPort}`;
      return {
        met: () => dns.asked.length,
        lift: async () => {
          delete arena.more.HF_ENDPOINT;
          delete arena.hubOptions.publicCdnUrl;
          arena.via = before;
          await dns.close();
          await rm(dir, { recursive: true });
        },
      };
    },
  };
}
