import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { build } from 'esbuild';
import { testCredentials } from '../fakes/s3/options.ts';
import type { DataSet } from './data-sets.ts';
import { cpuOf } from './measure.ts';

/** How a slow link behaves: round trip in ms, bytes per second of one connection. */
export interface Link {
  rtt: number;
  rate: number;
  /** Which end lies behind it; both by default. */
  slow?: SlowEnd;
}

export type SlowEnd = 'hub' | 's3';

/** The Hub and the S3 of a benchmark, each a process of its own. */
export interface Servers {
  hub: string;
  s3: string;
  bucket: string;
  credentials: { accessKeyId: string; secretAccessKey: string };
  /** CPU seconds that the processes of the ends have used so far. */
  cpu: () => { hub: number; s3: number };
  stop: () => void;
}

const programs = { hub: 'test/bench/hub-main.ts', s3: 'test/bench/s3-main.ts', link: 'test/bench/slow-link-main.ts' };

/** Bundles the servers' programs into a folder, so that they start and run as plain JavaScript. */
export async function bundleServers(folder: string): Promise<void> {
  const entryPoints = Object.entries(programs).map(([out, entry]) => ({ in: join(import.meta.dirname, '../..', entry), out }));
  const outExtension = { '.js': '.cjs' };
  await build({ entryPoints, outdir: folder, outExtension, bundle: true, platform: 'node', target: 'node24', format: 'cjs' });
}

/** Starts a Hub with these data sets and an S3 that keeps no bytes, behind a slow link where one is given; bundleServers comes first. */
export async function startServers(folder: string, sets: readonly DataSet[], link?: Link): Promise<Servers> {
  const children: ChildProcess[] = [];
  const start = async (name: keyof typeof programs, argument: unknown, env: NodeJS.ProcessEnv = {}) => {
    const child = spawn(process.execPath, [join(folder, `${name}.cjs`), JSON.stringify(argument)], {
      env: { PATH: process.env.PATH, ...env },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    children.push(child);
    const line = await Promise.race([once(child.stdout, 'data'), once(child, 'exit').then(() => undefined)]);
    if (!line) throw new Error(`failed to start the benchmark's ${name}`);
    return { pid: child.pid!, said: String(line[0]).trim() };
  };
  const stop = () => {
    for (const child of children) child.kill('SIGKILL');
  };
  try {
    const bucket = 'models';
    const ports = link ? await freePorts(3) : [];
    const behind = (end: SlowEnd, port: number | undefined) =>
      port !== undefined && (link?.slow ?? end) === end ? `http://127.0.0.1:${port}` : undefined;
    const [hubPort, cdnPort, s3Port] = [behind('hub', ports[0]), behind('hub', ports[1]), behind('s3', ports[2])];
    const hub = await start('hub', sets, cdnPort ? { PUBLIC_CDN_URL: cdnPort } : {});
    const s3 = await start('s3', {}, { BUCKETS: bucket });
    const { origin, cdn } = JSON.parse(hub.said) as { origin: string; cdn: string };
    if (link) {
      const ends = [origin, cdn, s3.said].map((end) => Number(new URL(end).port));
      await start('link', { ...link, links: ends.map((to, i) => ({ port: ports[i], to })) });
    }
    const cpu = () => ({ hub: cpuOf(hub.pid), s3: cpuOf(s3.pid) });
    return { hub: hubPort ?? origin, s3: s3Port ?? s3.said, bucket, credentials: testCredentials, cpu, stop };
  } catch (error) {
    stop();
    throw error;
  }
}

/** Ports that were free a moment ago, each another. */
async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0, '127.0.0.1');
      await once(server, 'listening');
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  for (const server of servers) server.close();
  return ports;
}
