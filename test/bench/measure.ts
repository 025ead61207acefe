import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** What one run of a command cost: seconds and bytes; see measure.py. */
export interface Cost {
  wall: number;
  /** User and system seconds of the whole process tree. */
  cpu: number;
  /** Highest sampled sum of resident bytes over the process tree. */
  peak: number;
  /** Resident bytes of the largest single process, exact. */
  maxrss: number;
}

/** Runs a command to its end with that environment alone; fails with the end of its output when it fails. */
export async function measure(command: readonly string[], env: NodeJS.ProcessEnv, log: string): Promise<Cost> {
  const python = process.env.PYTHON || 'python3';
  const { stdout } = await run(python, [join(import.meta.dirname, 'measure.py'), log, ...command], { env });
  const { exitCode, ...cost } = JSON.parse(stdout) as Cost & { exitCode: number };
  if (exitCode === 0) return cost;
  throw new Error(`${command.join(' ').slice(0, 500)} ended with ${exitCode}:\n${(await readFile(log, 'utf8')).slice(-2000)}`);
}

/** Seconds of CPU that a living process has used so far, to 10 ms. */
export function cpuOf(pid: number): number {
  // proc(5): fields 14 and 15 are utime and stime; the name before them may hold spaces. USER_HZ is 100 on every Linux that Node runs on.
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)!.split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** The median of a list that is not empty. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return (sorted[Math.floor((sorted.length - 1) / 2)]! + sorted[Math.ceil((sorted.length - 1) / 2)]!) / 2;
}

/** The medians of several runs, each number by itself. */
export function medianCost(costs: readonly Cost[]): Cost {
  const of = (key: keyof Cost) => median(costs.map((cost) => cost[key]));
  return { wall: of('wall'), cpu: of('cpu'), peak: of('peak'), maxrss: of('maxrss') };
}
