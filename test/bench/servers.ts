import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { build } from 'esbuild';
import { testCredentials } from '../fakes/s3/options.ts';
import type { DataSet } from './data-sets.ts';
import type { Link } from './link.ts';
import { cpuOf } from './measure.ts';

/** An end that lies behind a slow link. */
export type SlowEnd = 'hub' | 's3';

/** What its program is told. */
export interface HubArguments {
  sets: readonly DataSet[];
  link?: Link | undefined;
}

export interface S3Arguments {
  bucket: string;
  link?: Link | undefined;
}

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

const programs = { hub: 'test/bench/hub-main.ts', s3: 'test/bench/s3-main.ts' };

/** Bundles the servers' programs into a folder, so that they start and run as plain JavaScript. */
export async function bundleServers(folder: string): Promise<void> {
  const entryPoints = Object.entries(programs).map(([out, entry]) => ({ in: join(import.meta.dirname, '../..', entry), out }));
  const outExtension = { '.js': '.cjs' };
  await build({ entryPoints, outdir: folder, outExtension, bundle: true, platform: 'node', target: 'node24', format: 'cjs' });
}

/** Starts a Hub with these data sets and an S3 that keeps no bytes, behind a slow link where one is given: both, or the one that is `slow`. bundleServers comes first. */
export async function startServers(folder: string, sets: readonly DataSet[], link?: Link & { slow?: SlowEnd }): Promise<Servers> {
  const children: ChildProcess[] = [];
  const start = async (name: keyof typeof programs, given: HubArguments | S3Arguments) => {
    const child = spawn(process.execPath, [join(folder, `${name}.cjs`), JSON.stringify(given)], {
      env: { PATH: process.env.PATH },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    children.push(child);
    const line = await Promise.race([once(child.stdout, 'data'), once(child, 'exit').then(() => undefined)]);
    if (!line) throw new Error(`failed to start the benchmark's ${name}`);
    return { pid: child.pid!, origin: String(line[0]).trim() };
  };
  const stop = () => {
    for (const child of children) child.kill('SIGKILL');
  };
  try {
    const bucket = 'models';
    const before = (end: SlowEnd) => ((link?.slow ?? end) === end ? link : undefined);
    const hub = await start('hub', { sets, link: before('hub') });
    const s3 = await start('s3', { bucket, link: before('s3') });
    const cpu = () => ({ hub: cpuOf(hub.pid), s3: cpuOf(s3.pid) });
    return { hub: hub.origin, s3: s3.origin, bucket, credentials: testCredentials, cpu, stop };
  } catch (error) {
    stop();
    throw error;
  }
}
