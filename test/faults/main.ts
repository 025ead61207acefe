import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { SeenRequest } from '../fakes/server.ts';
import { Arena, repos } from '../torture/arena.ts';
import { type Attempt, attempt, tail } from '../torture/strike.ts';
import { type Call, victims } from '../torture/victims.ts';
import { faults, type NamedFault, type Side } from './faults.ts';
import { type Arranged, closers } from './worlds.ts';

/**
 * `npm run faults [-- --only "cut" --step sync]`: every fault against every step that meets it. Each run must get over it, or end with an exit
 * code that says what it is; never well with wrong bytes, never as a bug, never late. The next run, without the fault, must end well.
 */
const { values } = parseArgs({ options: { only: { type: 'string' }, step: { type: 'string' }, lanes: { type: 'string', default: '3' } } });
const say = (text: string) => process.stdout.write(`${text}\n`);
/** ms: four tries of a stall timeout of 2 s, for the few calls that a step makes one after the other before it gives up. */
const lateMs = 60_000;
const patience = { STALL_TIMEOUT: '2s', RETRIES: '3', WAIT_TIMEOUT: '20s', LOG_LEVEL: 'info' };

const steps = victims.filter(({ name, offline, named }) => !offline && !named && (values.step === undefined || name === values.step));
const cells = faults
  .filter(({ name }) => values.only === undefined || name.includes(values.only))
  .flatMap((fault) => steps.map((victim) => ({ fault, victim, outcome: '', wrong: '' })));

type Cell = (typeof cells)[number];

async function fill(cell: Cell): Promise<void> {
  const { fault, victim } = cell;
  const { world } = fault;
  if (world && world.options === undefined) {
    cell.outcome = '(not here)';
    return;
  }
  // Its files go in parts.
  const arena = await Arena.open('s3', victim.shardBytes[2] ?? 0, world?.options);
  try {
    const given = await victim.call(arena, repos[0], 0, false);
    const { met, lift } = (await world?.arrange?.(arena)) ?? arrange(arena, fault);
    const first = await through(arena, given).finally(lift);
    const { exitCode } = first.ended;
    if (Number.isNaN(met()) ? exitCode === 0 : met() <= (fault.fault?.skip ?? 0)) {
      cell.outcome = '-';
      return;
    }
    cell.outcome = exitCode === 0 ? 'recovered' : `exit ${exitCode}`;
    const faultsSeen = await arena.wrongBytes();
    if (faultsSeen.length > 0) cell.wrong = faultsSeen.join(', ');
    else if (first.ms > lateMs) cell.wrong = `took ${Math.round(first.ms / 1000)} s`;
    else if (exitCode === 1 || exitCode === null) cell.wrong = tail(first.ended);
    else if (fault.passes && exitCode !== 0) cell.wrong = tail(first.ended);
    else if (exitCode !== 0) {
      const next = await through(arena, given);
      if (next.ended.exitCode !== 0) cell.wrong = `the next run: ${tail(next.ended)}`;
      const after = await arena.wrongBytes();
      if (after.length > 0) cell.wrong = after.join(', ');
    }
  } catch (error) {
    cell.wrong = String(error);
  } finally {
    await arena.close();
  }
}

/** Runs a call and all that come after it, as long as they end well; the last one's end, and how long the slowest took. */
async function through(arena: Arena, call: Call): Promise<Attempt> {
  const run = { ...call, env: { ...call.env, ...patience } };
  let last = await attempt(arena, run, undefined);
  // A store that is never let into takes nothing away from a step that passes failures on.
  if (last.ended.exitCode !== 0) return last;
  for (const next of (await call.next?.(last.ended)) ?? []) {
    const after = await through(arena, next);
    last = { ...after, ms: Math.max(last.ms, after.ms) };
    if (after.ended.exitCode !== 0) break;
  }
  return last;
}

/** Counts the requests that a fault is meant for; without one all that the server sees. */
function arrange(arena: Arena, { side, fault = { on: () => true, times: 0 } }: NamedFault): Arranged {
  const servers = { hub: arena.hub.hub, cdn: arena.hub.cdn, s3: arena.s3, registry: arena.registry.server };
  const server = side in servers ? servers[side as Side] : arena.hub.hub;
  let met = 0;
  const { on } = fault;
  const counted = {
    ...fault,
    on: (request: SeenRequest) => {
      const hit = on instanceof RegExp ? on.test(`${request.method} ${request.url}`) : on(request);
      if (hit) met += 1;
      return hit;
    },
  };
  const lift = server.fail(counted);
  return { met: () => met, lift: async () => lift() };
}

const waiting = [...cells];
async function lane(): Promise<void> {
  for (let cell = waiting.shift(); cell; cell = waiting.shift()) {
    await fill(cell);
    if (cell.wrong) say(`FAIL ${cell.fault.name} x ${cell.victim.name}: ${cell.outcome}: ${cell.wrong}`);
  }
}
await Promise.all(Array.from({ length: Number(values.lanes) }, lane));
await Promise.all(closers.map((close) => close()));

say(`\n| fault | ${steps.map(({ name }) => name).join(' | ')} |\n| --- |${' --- |'.repeat(steps.length)}`);
const outcomeOf = (fault: NamedFault, step: string) =>
  cells.find((cell) => cell.fault === fault && cell.victim.name === step)?.outcome ?? '';
for (const fault of new Set(cells.map((cell) => cell.fault))) {
  say(`| ${fault.name} (${fault.side}) | ${steps.map(({ name }) => outcomeOf(fault, name)).join(' | ')} |`);
}
const failed = cells.filter(({ wrong }) => wrong !== '').length;
const met = cells.filter(({ outcome }) => !['-', '(not here)'].includes(outcome)).length;
say(`\n${met - failed} passed, ${failed} failed`);
const folder = join(import.meta.dirname, '../../.cache/reports');
mkdirSync(folder, { recursive: true });
writeFileSync(
  join(folder, 'faults.json'),
  `${JSON.stringify({ numTotalTests: met, numPassedTests: met - failed, numFailedTests: failed })}\n`,
);
process.exitCode = failed > 0 ? 1 : 0;
