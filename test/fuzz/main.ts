import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type FuzzReport, fuzz } from './run.ts';
import { makeTargets } from './targets.ts';

/**
 * `npm run fuzz [-- --cases 100000 --seed N --only S3 --seconds 300 --processes 2]`: what others write, made wrong by a seeded generator,
 * against what reads it. Targets run side by side, each in one process: a seed gives the same cases whatever their number.
 */
const { values } = parseArgs({
  options: {
    cases: { type: 'string', default: '100000' },
    seed: { type: 'string' },
    only: { type: 'string' },
    seconds: { type: 'string' },
    processes: { type: 'string', default: String(Math.min(2, availableParallelism())) },
    /** Set in those processes. */
    until: { type: 'string' },
  },
});
const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed);
// What a case throws is judged by its words; a long stack for each would be a tenth of the work.
Error.stackTraceLimit = 3;
if (process.send) await beWorker();
else await lead();

async function lead(): Promise<void> {
  const say = (text: string) => process.stdout.write(`${text}\n`);
  say(`fuzz: seed ${seed}, ${values.cases} cases each`);
  const startedAt = performance.now();
  const until = values.seconds === undefined ? [] : ['--until', String(Date.now() + Number(values.seconds) * 1000)];
  const targets = await makeTargets();
  const names = targets.map(({ name }) => name).filter((name) => values.only === undefined || name.includes(values.only));
  await Promise.all(targets.map((target) => target.close?.()));
  const counts = { passed: 0, failed: 0 };
  const lane = async () => {
    const worker = fork(import.meta.filename, ['--cases', values.cases, '--seed', String(seed), ...until]);
    for (let name = names.shift(); name !== undefined; name = names.shift()) {
      const { cases, refused, ms, cpuSeconds, faults } = await askWorker(worker, name);
      counts[faults.length === 0 ? 'passed' : 'failed'] += 1;
      say(
        `${faults.length === 0 ? 'ok  ' : 'FAIL'} ${name}: ${cases} cases, ${refused} refused, ${(ms / 1000).toFixed(1)} s, ${cpuSeconds.toFixed(1)} s of CPU`,
      );
      for (const fault of faults) say(`       ${fault}`);
    }
    worker.disconnect();
  };
  await Promise.all(Array.from({ length: Number(values.processes) }, lane));
  say(`\n${counts.passed} passed, ${counts.failed} failed, ${((performance.now() - startedAt) / 1000).toFixed(0)} s`);
  const folder = join(import.meta.dirname, '../../.cache/reports');
  mkdirSync(folder, { recursive: true });
  const summary = { numTotalTests: counts.passed + counts.failed, numPassedTests: counts.passed, numFailedTests: counts.failed, seed };
  writeFileSync(join(folder, 'fuzz.json'), `${JSON.stringify(summary)}\n`);
  process.exit(counts.failed > 0 ? 1 : 0);
}

/** A worker that ends before it has answered is a fault of its target: a case crashed it. */
async function askWorker(worker: ChildProcess, name: string): Promise<FuzzReport> {
  const ended = once(worker, 'exit').then(
    ([code]): FuzzReport => ({ name, cases: 0, refused: 0, ms: 0, cpuSeconds: 0, faults: [`its process ended: ${code}`] }),
  );
  const answered = once(worker, 'message').then(([report]) => report as FuzzReport);
  if (!worker.connected) return await ended;
  worker.send(name);
  return await Promise.race([ended, answered]);
}

async function beWorker(): Promise<void> {
  const targets = await makeTargets();
  const stopAt = values.until === undefined ? undefined : Number(values.until);
  process.on('message', async (name: string) => {
    const target = targets.find((each) => each.name === name);
    if (target) process.send?.(await fuzz(target, seed, Number(values.cases), stopAt));
  });
  process.on('disconnect', () => process.exit(0));
}
