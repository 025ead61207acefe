import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { fuzz } from './run.ts';
import { makeTargets } from './targets.ts';

/** `npm run fuzz [-- --cases 100000 --seed N --only S3 --seconds 300]`: what others write, made wrong by a seeded generator, against what reads it. */
const { values } = parseArgs({
  options: {
    cases: { type: 'string', default: '100000' },
    seed: { type: 'string' },
    only: { type: 'string' },
    seconds: { type: 'string' },
  },
});
const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed);
const say = (text: string) => process.stdout.write(`${text}\n`);
say(`fuzz: seed ${seed}, ${values.cases} cases each`);
const stopAt = values.seconds === undefined ? undefined : Date.now() + Number(values.seconds) * 1000;
const [targets, counts] = [await makeTargets(), { passed: 0, failed: 0 }];
for (const target of targets) {
  if (values.only === undefined || target.name.includes(values.only)) {
    const { cases, refused, ms, faults } = await fuzz(target, seed, Number(values.cases), stopAt);
    counts[faults.length === 0 ? 'passed' : 'failed'] += 1;
    say(`${faults.length === 0 ? 'ok  ' : 'FAIL'} ${target.name}: ${cases} cases, ${refused} refused, ${(ms / 1000).toFixed(1)} s`);
    for (const fault of faults) say(`       ${fault}`);
  }
  await target.close?.();
}
say(`\n${counts.passed} passed, ${counts.failed} failed`);
const folder = join(import.meta.dirname, '../../.cache/reports');
mkdirSync(folder, { recursive: true });
const summary = { numTotalTests: counts.passed + counts.failed, numPassedTests: counts.passed, numFailedTests: counts.failed, seed };
writeFileSync(join(folder, 'fuzz.json'), `${JSON.stringify(summary)}\n`);
process.exit(counts.failed > 0 ? 1 : 0);
