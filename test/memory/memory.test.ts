import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dataSet } from '../bench/data-sets.ts';
import { measure } from '../bench/measure.ts';
import { bundleServers, type SlowEnd, startServers } from '../bench/servers.ts';
import { type Command, ours, type Place } from '../bench/tools.ts';

const MiB = 1024 ** 2;
const set = dataSet('4 GiB in 2 files', 4096 * MiB, 2);

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'memory-'));
  await bundleServers(root);
});
afterAll(() => rm(root, { recursive: true, force: true }));

/** The slow end lets each connection have 20 MB/s, so that the other one is always ahead: what it brings must not pile up. */
const link = (slow: SlowEnd) => ({ rtt: 20, rate: 20e6, slow });
const many = ['--concurrency', '64'];
const ways: [string, SlowEnd, string[]][] = [
  ['into a slow S3', 's3', []],
  ['from a slow Hub', 'hub', []],
  ['into a slow S3 by 64 connections', 's3', many],
  ['from a slow Hub by 64 connections', 'hub', many],
];

/** Runs a program to its end, and gives the most bytes that were resident at once and what it wrote. */
async function peakOf(name: string, { argv, env }: Command): Promise<{ peak: number; output: string }> {
  const log = join(root, 'log');
  const { peak, maxrss, wall } = await measure(argv, env, log);
  console.log(`${name}: ${Math.round(maxrss / MiB)} MiB at most, ${wall.toFixed(1)} s`);
  return { peak: Math.max(peak, maxrss), output: await readFile(log, 'utf8') };
}

const place = (name: string): Place => ({
  programs: join(import.meta.dirname, '../../dist'),
  home: root,
  workspace: join(root, name),
  run: name,
});

test.each(ways)('a sync of 4 GiB %s stays under 256 MiB resident', async (name, slow, flags) => {
  const servers = await startServers(root, [set], link(slow));
  try {
    const { peak, output } = await peakOf(name, ours('sync', servers, place('none'), ['--model-id', set.repo, ...flags]));
    expect(output).toMatch(/"uploaded-bytes":"42949\d{5}"/);
    expect(peak).toBeLessThan(256 * MiB);
  } finally {
    servers.stop();
  }
});

describe('1.5 GiB that are made smaller while they are sent stay under 256 MiB resident', () => {
  const model = { ...dataSet('1.5 GiB Llama in 2 files', 1536 * MiB, 2), isModel: true };
  const method = ['--method', 'fp8-dynamic'];

  function expectSmaller(output: string): void {
    const share = Number(/"total-bytes":"(\d+)"/.exec(output)?.[1]) / model.totalBytes;
    // What is not in linear layers stays as it is.
    expect([share > 0.5, share < 0.7], String(share)).toEqual([true, true]);
  }

  test.each(ways)('by sync, %s', async (name, slow, flags) => {
    const servers = await startServers(root, [model], link(slow));
    try {
      const { peak, output } = await peakOf(name, ours('sync', servers, place('none'), ['--model-id', model.repo, ...method, ...flags]));
      expectSmaller(output);
      expect(peak).toBeLessThan(256 * MiB);
    } finally {
      servers.stop();
    }
  });

  test('by compress --fuse-upload into a slow S3, by 8 connections and by 64', async () => {
    const servers = await startServers(root, [model], link('s3'));
    try {
      await peakOf('download', ours('download', servers, place('workspace'), ['--model-id', model.repo]));
      for (const [version, flags] of Object.entries({ few: [], many })) {
        const fused = ours('compress', servers, place('workspace'), [...method, '--fuse-upload', '--model-version', version, ...flags]);
        const { peak, output } = await peakOf(`compress --fuse-upload ${version}`, fused);
        expectSmaller(output);
        expect(peak).toBeLessThan(256 * MiB);
      }
    } finally {
      servers.stop();
    }
  });
});
