import { execFile } from 'node:child_process';
import { globSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { DataSet } from './data-sets.ts';
import { type Cost, measure, median, medianCost } from './measure.ts';
import type { Servers } from './servers.ts';
import { awsCp, type Command, hfDownload, inTurn, ours, type Place, rcloneCopy, s5cmdCp, type Tools } from './tools.ts';

export type Job = 'download' | 'upload' | 'sync';
export const jobs: readonly Job[] = ['download', 'upload', 'sync'];

/** What rows run on: made once for the whole benchmark. */
export interface Bench {
  /** A folder of its own, removed at the end. */
  root: string;
  programs: string;
  tools: Tools;
  say: (line: string) => void;
}

/** What one tool cost: medians over its runs, and what the Hub and the S3 used of the CPU meanwhile. */
export interface Measured extends Cost {
  tool: string;
  hubCpu: number;
  s3Cpu: number;
}

interface Contender {
  tool: string;
  command: (servers: Servers, place: Place) => Command;
}

/**
 * Runs our program and the others in turn, A B A B, `runs` times after one round that does not count; ours is the first of the list.
 * The files that an upload reads are downloaded first, once.
 */
export async function compare(bench: Bench, servers: Servers, job: Job, set: DataSet, runs: number): Promise<Measured[]> {
  const model = join(bench.root, 'model');
  const source: Place = { programs: bench.programs, home: bench.root, workspace: model, run: 'source' };
  try {
    if (job === 'upload') {
      const { argv, env } = ours('download', servers, source, ['--model-id', set.repo]);
      await measure(argv, env, join(bench.root, 'log'));
    }
    const contenders = contendersFor(bench.tools, job, set, model);
    return await inRounds(bench, servers, contenders, `${job} ${set.label}`, runs);
  } finally {
    await rm(model, { recursive: true, force: true });
  }
}

/** Only our sync, `runs` times after one that does not count. */
export async function syncAlone(
  bench: Bench,
  servers: Servers,
  set: DataSet,
  runs: number,
  flags: readonly string[] = [],
): Promise<Measured> {
  const [measured] = await inRounds(bench, servers, [ourSync(set, flags)], `sync ${set.label} ${flags.join(' ')}`, runs);
  return measured!;
}

/** Only what people take instead of our sync, as above. */
export async function theirSyncAlone(bench: Bench, servers: Servers, set: DataSet, runs: number): Promise<Measured> {
  const [measured] = await inRounds(bench, servers, [theirSync(bench.tools, set)], `sync ${set.label}`, runs);
  return measured!;
}

function theirSync(tools: Tools, set: DataSet): Contender {
  const command = (servers: Servers, place: Place) =>
    inTurn(hfDownload(tools, servers, place, set.repo, place.workspace), s5cmdCp(tools, servers, place, place.workspace));
  return { tool: 'hf download && s5cmd cp', command };
}

function ourSync(set: DataSet, flags: readonly string[] = []): Contender {
  // Another model each run: what an earlier version has would be copied in the store, not sent.
  const command = (servers: Servers, place: Place) =>
    ours('sync', servers, place, ['--model-id', set.repo, '--model-name', place.run, ...flags]);
  return { tool: 'modelferry sync', command };
}

function contendersFor(tools: Tools, job: Job, set: DataSet, model: string): Contender[] {
  if (job === 'download') {
    return [
      { tool: 'modelferry download', command: (servers, place) => ours('download', servers, place, ['--model-id', set.repo]) },
      { tool: 'hf download', command: (servers, place) => hfDownload(tools, servers, place, set.repo, place.workspace) },
    ];
  }
  if (job === 'sync') {
    return [ourSync(set), theirSync(tools, set)];
  }
  const [files] = globSync(join(model, '*/*/files'));
  if (!files) throw new Error(`no model was downloaded into ${model}`);
  return [
    {
      tool: 'modelferry upload',
      command: (servers, place) => ours('upload', servers, { ...place, workspace: model }, ['--model-name', place.run]),
    },
    { tool: 's5cmd cp', command: (servers, place) => s5cmdCp(tools, servers, place, files) },
    { tool: 'aws s3 cp', command: (servers, place) => awsCp(tools, servers, place, files) },
    { tool: 'rclone copy', command: (servers, place) => rcloneCopy(tools, servers, place, files) },
  ];
}

let runsSoFar = 0;

/** Has the disk write what the run before left to it: the next one is not to pay for that. */
async function settle(): Promise<void> {
  await promisify(execFile)('sync');
}

async function inRounds(bench: Bench, servers: Servers, contenders: Contender[], title: string, runs: number): Promise<Measured[]> {
  const taken = contenders.map(() => [] as { cost: Cost; hub: number; s3: number }[]);
  for (let round = 0; round <= runs; round += 1) {
    for (const [i, { tool, command }] of contenders.entries()) {
      runsSoFar += 1;
      const home = join(bench.root, 'run');
      const place: Place = { programs: bench.programs, home, workspace: join(home, 'workspace'), run: `run-${runsSoFar}` };
      await mkdir(place.workspace, { recursive: true });
      try {
        const { argv, env } = command(servers, place);
        await settle();
        const before = servers.cpu();
        const cost = await measure(argv, env, join(bench.root, 'log'));
        const after = servers.cpu();
        const [hub, s3] = [after.hub - before.hub, after.s3 - before.s3];
        if (round > 0) taken[i]!.push({ cost, hub, s3 });
        bench.say(`${title}: ${tool}: ${round === 0 ? 'warm-up' : `run ${round}`} ${cost.wall.toFixed(2)} s, CPU ${cost.cpu.toFixed(2)} s`);
      } finally {
        await rm(home, { recursive: true, force: true });
      }
    }
  }
  return contenders.map(({ tool }, i) => ({
    tool,
    ...medianCost(taken[i]!.map(({ cost }) => cost)),
    hubCpu: median(taken[i]!.map(({ hub }) => hub)),
    s3Cpu: median(taken[i]!.map(({ s3 }) => s3)),
  }));
}
