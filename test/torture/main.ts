import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { StoreKind } from './arena.ts';
import { Random } from './random.ts';
import { type RoundReport, round } from './round.ts';
import { type Victim, victims } from './victims.ts';

/**
 * `npm run torture -- [--seconds 300] [--seed N] [--only sync]`: programs are killed at random, run again, and killed again; what must hold is
 * looked at each time. The seed tells the choices, not the machine's timing.
 */
const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '300' },
    seed: { type: 'string' },
    only: { type: 'string' },
    lanes: { type: 'string', default: '2' },
  },
});
const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed);
const stopAt = Date.now() + Number(values.seconds) * 1000;
const random = new Random(seed);
const say = (text: string) => process.stdout.write(`${text}\n`);
say(`torture: seed ${seed}, ${values.seconds} s`);

const kindsOf = ({ offline }: Victim): StoreKind[] => (offline ? ['folder'] : ['s3', 'folder']);
const pairs = victims
  .filter(({ name }) => values.only === undefined || name === values.only)
  .flatMap((victim) => kindsOf(victim).map((kind) => ({ victim, kind })));
let waiting: typeof pairs = [];
const reports: RoundReport[] = [];

/** Every pair comes equally often, in a new order each time. */
async function lane(): Promise<void> {
  while (Date.now() < stopAt) {
    if (waiting.length === 0) waiting = random.shuffled(pairs);
    const { victim, kind } = waiting.pop() as (typeof pairs)[number];
    const report = await round(victim, kind, random.branch());
    reports.push(report);
    const kills = report.kills.SIGKILL + report.kills.SIGTERM;
    say(`${report.faults.length === 0 ? 'ok  ' : 'FAIL'} ${reports.length} ${report.name}: ${kills} kills in ${report.runs} runs`);
    for (const fault of report.faults) say(`       ${fault}`);
  }
}
await Promise.all(Array.from({ length: Number(values.lanes) }, lane));

const sum = (pick: (report: RoundReport) => number) => reports.reduce((total, report) => total + pick(report), 0);
say('\n| victim | rounds | kill -9 | SIGTERM | MB sent again | MB got again | failed |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |');
for (const [name, own] of Map.groupBy(reports, ({ name: each }) => each.split(' ').slice(0, 2).join(' '))) {
  const of = (pick: (report: RoundReport) => number) => own.reduce((total, report) => total + pick(report), 0);
  const megabytes = (bytes: number) => (bytes / 1e6).toFixed(1);
  const cells = [name, own.length, of(({ kills }) => kills.SIGKILL), of(({ kills }) => kills.SIGTERM)];
  say(
    `| ${[...cells, megabytes(of((r) => r.sentAgain)), megabytes(of((r) => r.gotAgain)), own.filter((r) => r.faults.length > 0).length].join(' | ')} |`,
  );
}
const failed = reports.filter(({ faults }) => faults.length > 0).length;
say(`\nseed ${seed}: ${sum((r) => r.kills.SIGKILL)} kill -9, ${sum((r) => r.kills.SIGTERM)} SIGTERM, ${sum((r) => r.runs)} runs`);
say(`${reports.length - failed} passed, ${failed} failed`);
const folder = join(import.meta.dirname, '../../.cache/reports');
mkdirSync(folder, { recursive: true });
const summary = { numTotalTests: reports.length, numPassedTests: reports.length - failed, numFailedTests: failed, seed, reports };
writeFileSync(join(folder, 'torture.json'), `${JSON.stringify(summary, null, 2)}\n`);
process.exitCode = failed > 0 ? 1 : 0;
