import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { FakeS3, testCredentials } from '../fakes/s3.ts';

export interface Running {
  name: string;
  endpoint: string;
  stop: () => Promise<void>;
}

export interface Dialect {
  name: string;
  /** Starts it below a folder, building what has to be built if asked to; a string tells why it cannot be had here. */
  start(dir: string, build: boolean): Promise<Running | string>;
}

const { accessKeyId, secretAccessKey } = testCredentials;
const tools = join(import.meta.dirname, '../../.cache/tools');

/** The last release that anybody may build: the project is archived since. */
const minioModule = 'github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c';
const startMs = 120_000;

export const dialects: readonly Dialect[] = [
  {
    name: 'embedded (as AWS)',
    async start() {
      const server = await new FakeS3().listen();
      return { name: this.name, endpoint: server.origin, stop: () => server.close() };
    },
  },
  {
    name: 'versitygw',
    /** Wherever one runs already: its address and the test keys. */
    async start() {
      const endpoint = process.env.TEST_VERSITYGW_URL ?? 'http://127.0.0.1:9000';
      if (!(await answers(endpoint))) return `no versitygw answers at ${endpoint} (TEST_VERSITYGW_URL)`;
      return { name: this.name, endpoint, stop: async () => {} };
    },
  },
  {
    name: 'MinIO',
    async start(dir, build) {
      if (!existsSync(join(tools, 'minio'))) {
        if (!build) return 'it is not built: --build does it with Go, in ten minutes and more';
        if (!has('go')) return 'there is no Go to build it with';
        await mkdir(tools, { recursive: true });
        execFileSync('nice', ['go', 'install', minioModule], { env: { ...process.env, GOBIN: tools }, stdio: 'inherit' });
      }
      const [port, console] = [await freePort(), await freePort()];
      const args = ['server', dir, '--address', `127.0.0.1:${port}`, '--console-address', `127.0.0.1:${console}`, '--quiet'];
      const env = { ...process.env, MINIO_ROOT_USER: accessKeyId, MINIO_ROOT_PASSWORD: secretAccessKey, MINIO_CI_CD: '1' };
      return await started(this.name, spawn(join(tools, 'minio'), args, { env, stdio: 'ignore' }), port);
    },
  },
  {
    name: 'Ceph RADOS Gateway',
    async start(dir) {
      if (!has('radosgw') || !has('ceph-osd') || !has('ceph-mon'))
        return 'Ceph is not installed: Debian has radosgw ceph-mon ceph-osd ceph-common';
      const port = await freePort();
      const script = join(import.meta.dirname, 'ceph.sh');
      return await started(this.name, spawn(script, [dir, String(port), accessKeyId, secretAccessKey], { stdio: 'ignore' }), port);
    },
  },
];

async function started(name: string, child: ChildProcess, port: number): Promise<Running> {
  const endpoint = `http://127.0.0.1:${port}`;
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const stop = async () => {
    child.kill('SIGTERM');
    await ended;
  };
  for (const deadline = Date.now() + startMs; !(await answers(endpoint)); await sleep(300)) {
    if (child.exitCode !== null) throw new Error(`${name} ended with ${child.exitCode}`);
    if (Date.now() > deadline) {
      await stop();
      throw new Error(`${name} does not answer at ${endpoint}`);
    }
  }
  return { name, endpoint, stop };
}

/** Any answer of HTTP but that of a gateway that is not up yet. */
async function answers(endpoint: string): Promise<boolean> {
  try {
    const { status } = await fetch(endpoint, { signal: AbortSignal.timeout(3000) });
    return status < 500;
  } catch {
    return false;
  }
}

function has(command: string): boolean {
  return (process.env.PATH ?? '').split(':').some((dir) => existsSync(join(dir, command)));
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise<void>((resolve) => server.close(() => resolve()));
  // Ceph's monitor takes the next one.
  return port > 65_000 ? await freePort() : port;
}
