import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Manifest, makeManifest, manifestBytes } from '../../lib/manifest.ts';
import { dataSet } from '../bench/data-sets.ts';
import { measure } from '../bench/measure.ts';
import { bundleServers, type SlowEnd, startServers } from '../bench/servers.ts';
import { type Command, ours, type Place } from '../bench/tools.ts';
import { fillWorkspace } from '../fakes/workspace.ts';

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

/** bfloat16 zeros on no disk space, in the shapes of a large model: with square blocks, rows that come together are of several sizes. */
async function sparseModel(workspace: string): Promise<void> {
  const shapes = Array.from({ length: 7 }, (_, layer): [string, [number, number]][] => [
    [`model.layers.${layer}.mlp.down_proj.weight`, [8192, 28_672]],
    [`model.layers.${layer}.self_attn.o_proj.weight`, [8192, 8192]],
  ]).flat();
  const bytesOf = ([rows, cols]: readonly [number, number]) => rows * cols * 2;
  let end = 0;
  const header = shapes.map(([name, shape]) => {
    const start = end;
    end += bytesOf(shape);
    return [name, { dtype: 'BF16', shape, data_offsets: [start, end] }];
  });
  const text = JSON.stringify(Object.fromEntries(header));
  const head = Buffer.alloc(8 + Math.ceil(text.length / 8) * 8, ' ');
  head.writeBigUInt64LE(BigInt(head.length - 8));
  head.write(text, 8);
  const config = Buffer.from(JSON.stringify({ architectures: ['LlamaForCausalLM'], model_type: 'llama', torch_dtype: 'bfloat16' }));
  const { filesDir, dir } = await fillWorkspace(workspace, { 'config.json': config, 'model.safetensors': head });
  const path = join(filesDir, 'model.safetensors');
  await truncate(path, head.length + end);
  const hash = createHash('sha256');
  for await (const piece of createReadStream(path, { highWaterMark: MiB })) hash.update(piece as Buffer);
  const manifest = JSON.parse(await readFile(join(dir, 'manifest.json'), 'utf8')) as Manifest;
  const files = manifest.files.map((file) =>
    file.path === 'config.json' ? file : { ...file, size: head.length + end, sha256: hash.copy().digest('hex') },
  );
  await writeFile(join(dir, 'manifest.json'), manifestBytes(makeManifest({ ...manifest, files })));
}

test('compress of a 4 GB shard in square blocks stays under 256 MiB resident', async () => {
  const workspace = join(root, 'sparse');
  await sparseModel(workspace);
  const argv = [process.execPath, join(place('sparse').programs, 'compress.cjs'), '--method', 'fp8-block'];
  const { peak, output } = await peakOf('compress', { argv, env: { PATH: process.env.PATH ?? '', WORKSPACE: workspace } });
  expect(output).toContain('compress done');
  expect(peak).toBeLessThan(256 * MiB);
});
