import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { methods } from '../../lib/quantization/schemes.ts';
import { median } from './measure.ts';

const run = promisify(execFile);

/** Head of the table that `kernelRows` fills. */
export const kernelHead = ['method', 'weights', 'M weights / CPU s', 'with errors for the report'];

/** What quantizing costs in memory, without any file: each method on bfloat16, and some on the other types; medians of `runs`. */
export async function kernelRows(runs: number, say: (line: string) => void): Promise<string[][]> {
  const rows: string[][] = [];
  const cases = [
    ...methods.map((method) => [method, 'BF16'] as const),
    ...['F16', 'F32'].flatMap((type) => (['fp8-dynamic', 'w4a16', 'nvfp4a16'] as const).map((method) => [method, type] as const)),
  ];
  for (const [method, type] of cases) {
    const speeds: string[] = [];
    for (const sums of ['plain', 'sums']) {
      const argv = [join(import.meta.dirname, 'kernel-main.ts'), method, type, sums, String(runs)];
      const { stdout } = await run(process.execPath, argv);
      speeds.push(String(Math.round(median(JSON.parse(stdout) as number[]) / 1e6)));
    }
    say(`kernels: ${method} ${type}: ${speeds[0]} M weights / CPU s, ${speeds[1]} with errors`);
    rows.push([method, type, ...speeds]);
  }
  return rows;
}
