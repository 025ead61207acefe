import { cpSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { parseBytes, showBytes } from '../../lib/units.ts';
import { compressHead, compressRows } from './compress.ts';
import { type DataSet, dataSet } from './data-sets.ts';
import { fuseHead, fuseRows } from './fuse.ts';
import { kernelHead, kernelRows } from './kernels.ts';
import type { Link } from './link.ts';
import { type Bench, compare, type Job, jobs, type Measured, syncAlone, theirSyncAlone } from './rows.ts';
import { bundleServers, type Servers, startServers } from './servers.ts';
import { markdownTable, mebibytes, ratio, seconds } from './table.ts';
import { installTools, toolVersions } from './tools.ts';

const usage = `npm run bench -- [download] [upload] [sync] [scale] [latency] [kernels] [compress] [fuse] [flags]
  The first three (all of them by default): our programs and what people take instead, side by side.
  scale: sync of 1, 4 and 16 GiB. latency: sync over a slow link by 1 to 16 connections, and what people take instead.
  kernels: quantizing in memory, by method; needs no other program.
  compress: 1 GB of bfloat16 from disk to disk; --reference: beside llmcompressor (5.8 GB of Python).
  fuse: the same made smaller and published, by two steps and by one.
  One row alone: sync --size 1GiB --files 2000 (small files), sync --size 8GiB --files 1 (one large file), upload --size 2GiB.
  --runs 5     counted runs of each, after one that is not; medians are shown
  --size 2GiB  only this much, in --files files, instead of 2 GiB in two files and 1 GiB in 2,000
  --files 2
  --large      8 GiB in one file too (12 GiB of disk)
  --rtt 50     round trip of the slow link in ms
  --rate 200MB bytes per second of one of its connections
  --dir DIR    where to work; default the system's folder for temporary files`;

const GiB = 1024 ** 3;
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    runs: { type: 'string', default: '5' },
    size: { type: 'string' },
    files: { type: 'string', default: '2' },
    large: { type: 'boolean', default: false },
    rtt: { type: 'string', default: '50' },
    rate: { type: 'string', default: '200MB' },
    dir: { type: 'string', default: tmpdir() },
    reference: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
const runs = Number(values.runs);
const size = values.size === undefined ? undefined : parseBytes(values.size);
const link: Link = { rtt: Number(values.rtt), rate: parseBytes(values.rate) ?? 0 };
const alone = ['kernels', 'compress', 'fuse'];
const known = [...jobs, 'scale', 'latency', ...alone];
const wrong = positionals.filter((word) => !known.includes(word));
const valid = wrong.length === 0 && runs >= 1 && link.rtt >= 0 && link.rate > 0 && Number(values.files) >= 1;
if (values.help || !valid || (values.size !== undefined && !size)) {
  process.stderr.write(`${usage}\n`);
  process.exit(values.help ? 0 : 2);
}

const say = (line: string) => process.stderr.write(`${line}\n`);
const print = (text: string) => process.stdout.write(`${text}\n`);
const root = await mkdtemp(join(values.dir, 'modelferry-bench-'));
const running = new Set<Servers>();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    for (const servers of running) servers.stop();
    void rm(root, { recursive: true, force: true }).then(() => process.exit(1));
  });
}

/** Lends the ends of a benchmark to `use`. */
async function withServers<T>(sets: readonly DataSet[], slow: Link | undefined, use: (servers: Servers) => Promise<T>): Promise<T> {
  const servers = await startServers(root, sets, slow);
  running.add(servers);
  try {
    return await use(servers);
  } finally {
    servers.stop();
    running.delete(servers);
  }
}

const costHead = ['wall s', 'CPU s', 'peak MiB', 'maxrss MiB', 'Hub CPU s', 'S3 CPU s'];
const costCells = (m: Measured) => [
  seconds(m.wall),
  seconds(m.cpu),
  mebibytes(m.peak),
  mebibytes(m.maxrss),
  seconds(m.hubCpu),
  seconds(m.s3Cpu),
];

async function sideBySide(bench: Bench, wanted: readonly Job[]): Promise<void> {
  const sets = size
    ? [dataSet(`${values.size} in ${values.files} files`, size, Number(values.files))]
    : [dataSet('2 GiB in 2 files', 2 * GiB, 2), dataSet('1 GiB in 2000 files', GiB, 2000)];
  if (values.large) sets.push(dataSet('8 GiB in 1 file', 8 * GiB, 1));
  const rows: string[][] = [];
  for (const set of sets) {
    for (const job of wanted) {
      // Ends of its own for each job: an S3 that many other clients used before takes twice the CPU for the same bytes.
      const [ours, ...others] = await withServers([set], undefined, (servers) => compare(bench, servers, job, set, runs));
      rows.push([set.label, ours!.tool, ...costCells(ours!), '', '']);
      for (const other of others) {
        rows.push([set.label, other.tool, ...costCells(other), ratio(ours!.wall, other.wall), ratio(ours!.cpu, other.cpu)]);
      }
    }
  }
  print(markdownTable(['data', 'command', ...costHead, 'wall ours/theirs', 'CPU ours/theirs'], rows));
}

async function scale(bench: Bench): Promise<void> {
  const rows: string[][] = [];
  for (const gib of [1, 4, 16]) {
    const set = dataSet(`${gib} GiB in 4 files`, gib * GiB, 4);
    const m = await withServers([set], undefined, (servers) => syncAlone(bench, servers, set, runs));
    rows.push([set.label, m.tool, ...costCells(m), seconds(m.wall / gib), seconds(m.cpu / gib)]);
  }
  print(markdownTable(['data', 'command', ...costHead, 'wall s/GiB', 'CPU s/GiB'], rows));
}

async function latency(bench: Bench): Promise<void> {
  const set = dataSet(`${values.size ?? '1GiB'} in ${values.files} files`, size ?? GiB, Number(values.files));
  const rows: string[][] = [];
  const row = (name: string, what: string, m: Measured, data: DataSet, connections?: number, rate?: number) => {
    const speed = data.totalBytes / m.wall;
    const share = connections && rate ? ratio(speed, connections * rate) : '';
    rows.push([name, `${m.tool}${what}, ${data.label}`, ...costCells(m), String(Math.round(speed / 1e6)), share]);
  };
  const by = (connections: number) => ['--concurrency', String(connections)];
  await withServers([set], undefined, async (servers) => row('no link', '', await syncAlone(bench, servers, set, runs), set));
  // Hardly a byte: what a run takes besides.
  const small = dataSet('1 MiB in 2 files', 1024 ** 2, 2);
  for (const rate of [link.rate, link.rate / 10]) {
    const slow = { ...link, rate };
    const name = `${link.rtt} ms, ${showBytes(rate)}/s`;
    await withServers([set, small], slow, async (servers) => {
      row(name, '', await syncAlone(bench, servers, small, runs), small);
      for (const connections of [1, 4, 8, 16]) {
        const measured = await syncAlone(bench, servers, set, runs, by(connections));
        row(name, ` ${by(connections).join(' ')}`, measured, set, connections, rate);
      }
      row(name, '', await theirSyncAlone(bench, servers, set, runs), set);
    });
  }
  print(markdownTable(['link', 'command', ...costHead, 'MB/s', 'of connections × rate'], rows));
}

/** A copy: a build that runs meanwhile shall not take the programs away. */
function copyOfPrograms(): string {
  const programs = join(root, 'programs');
  cpSync(join(import.meta.dirname, '../../dist'), programs, { recursive: true });
  return programs;
}

async function beside(): Promise<void> {
  const programs = copyOfPrograms();
  await bundleServers(root);
  const bench: Bench = { root, programs, tools: await installTools(), say };
  const wanted = positionals.length === 0 ? jobs : jobs.filter((job) => positionals.includes(job));
  print(
    `${cpus().length} cores (${cpus()[0]?.model.trim()}), Node ${process.version}, ${toolVersions}. Loopback; Hub and S3 are processes on the same cores.`,
  );
  print('CPU: user and system seconds of the whole process tree (wait4). peak: resident bytes summed over the tree, sampled every 20 ms.');
  print('maxrss: largest single process (ru_maxrss). Only modelferry hashes what it carries (sha256).\n');
  if (wanted.length > 0) await sideBySide(bench, wanted);
  if (positionals.includes('scale')) await scale(bench);
  if (positionals.includes('latency')) await latency(bench);
}

try {
  print(
    `\`npm run bench${process.argv.length > 2 ? ` -- ${process.argv.slice(2).join(' ')}` : ''}\`: medians of ${runs} after one warm-up.`,
  );
  if (positionals.length === 0 || positionals.some((word) => !alone.includes(word))) await beside();
  if (positionals.includes('compress')) {
    const { reference } = values;
    print(markdownTable(compressHead, await compressRows({ root, programs: copyOfPrograms(), runs, say, reference })));
  }
  if (positionals.includes('fuse')) {
    await bundleServers(root);
    print(markdownTable(fuseHead, await fuseRows({ root, programs: copyOfPrograms(), runs, say })));
  }
  if (positionals.includes('kernels')) print(markdownTable(kernelHead, await kernelRows(runs, say)));
} finally {
  await rm(root, { recursive: true, force: true });
}
