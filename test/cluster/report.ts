import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';

const file = join(import.meta.dirname, '../../.cache/reports/cluster-left.txt');

/** Says what a run left behind: objects and records. Printed when all tests are over. */
export function leave(line: string): void {
  mkdirSync(dirname(file), { recursive: true });
  appendFileSync(file, `${line}\n`);
}

/** vitest's global set-up: begins the report, and prints it at the end. */
export function setup(): () => void {
  rmSync(file, { force: true });
  return () => {
    if (existsSync(file)) console.log(`\nWhat the runs left:\n${readFileSync(file, 'utf8')}`);
  };
}
