import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { dataSet } from '../bench/data-sets.ts';
import { measure } from '../bench/measure.ts';
import { bundleServers, type SlowEnd, startServers } from '../bench/servers.ts';
import { ours } from '../bench/tools.ts';

const MiB = 1024 ** 2;
const set = dataSet('4 GiB in 2 files', 4096 * MiB, 2);

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'memory-'));
  await bundleServers(root);
});
afterAll(() => rm(root, { recursive: true, force: true }));

/** The slow end lets each connection have 20 MB/s, so that the other one is always ahead: what it brings must not pile up. */
test.each<[string, SlowEnd, string[]]>([
  ['into a slow S3', 's3', []],
  ['from a slow Hub', 'hub', []],
  ['into a slow S3 by 64 connections', 's3', ['--concurrency', '64']],
  ['from a slow Hub by 64 connections', 'hub', ['--concurrency', '64']],
])('a sync of 4 GiB %s stays under 256 MiB resident', async (_, slow, flags) => {
  const servers = await startServers(root, [set], { rtt: 20, rate: 20e6, slow });
  try {
    const place = { programs: join(import.meta.dirname, '../../dist'), home: root, workspace: join(root, 'none'), run: slow };
    const { argv, env } = ours('sync', servers, place, ['--model-id', set.repo, ...flags]);
    const log = join(root, `${slow}.log`);
    const { peak, maxrss, wall } = await measure(argv, env, log);
    console.log(`${slow} slow: ${Math.round(maxrss / MiB)} MiB at most, ${wall.toFixed(1)} s`);
    expect(await readFile(log, 'utf8')).toMatch(/"uploaded-bytes":"42949\d{5}"/);
    expect(Math.max(peak, maxrss)).toBeLessThan(256 * MiB);
  } finally {
    servers.stop();
  }
});
