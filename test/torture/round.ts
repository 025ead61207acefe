import { Arena, inFlightBytes, repos, type StoreKind } from './arena.ts';
import type { Random } from './random.ts';
import { type Attempt, attempt, chooseStrike, type Signal, tail } from './strike.ts';
import type { Call, Victim } from './victims.ts';

export interface RoundReport {
  name: string;
  kills: Record<Signal, number>;
  runs: number;
  /** Bytes over what one undisturbed run moves. */
  sentAgain: number;
  gotAgain: number;
  faults: string[];
}

/** How long (ms) runs take that nobody hits, as far as it is known by now: strikes are spread over that. */
const usual = new Map<string, number>();

/**
 * One target, one to three writers, a few tries of each of which most are hit; then each is run once more and left alone. What must hold is
 * looked at after every try.
 */
export async function round(victim: Victim, kind: StoreKind, random: Random): Promise<RoundReport> {
  const arena = await Arena.open(kind, random.pick([400_000, 3_000_000, 7_000_000, 11_000_000]));
  const writers = random.chance(1 / 3) ? random.between(2, 3) : 1;
  const shared = random.chance(0.5);
  const rivals = writers > 1 && victim.publishes && !victim.registers && random.chance(0.4);
  const name = `${victim.name} ${kind} ${writers > 1 ? `${writers} ${rivals ? 'rivals' : 'writers'}${shared ? ', one workspace' : ''}` : '1 writer'}`;
  const report: RoundReport = { name, kills: { SIGKILL: 0, SIGTERM: 0 }, runs: 0, sentAgain: 0, gotAgain: 0, faults: [] };
  try {
    const calls: Call[] = [];
    for (let writer = 0; writer < writers; writer += 1) {
      calls.push(await victim.call(arena, rivals && writer % 2 === 1 ? repos[1] : repos[0], writer, shared));
    }
    const before = arena.moved;
    const usualKey = `${victim.name} ${kind}`;
    let hits = 0;
    let last: Attempt[] = [];
    for (let tries = random.between(1, 4); tries > 0; tries -= 1) {
      const strikes = calls.map(() => (random.chance(0.85) ? chooseStrike(random, usual.get(usualKey) ?? 1500) : undefined));
      last = await Promise.all(calls.map((call, index) => attempt(arena, call, strikes[index])));
      for (const each of last) {
        report.runs += 1;
        if (each.struck) {
          hits += 1;
          report.kills[each.struck] += 1;
        } else if (!mayEnd(each, rivals)) report.faults.push(`a run that was not hit: ${tail(each.ended)}`);
      }
      report.faults.push(...(await soundness(arena, victim)));
    }
    await end(arena, victim, calls, rivals, report, usualKey);
    const { sent, got } = { sent: arena.moved.sent - before.sent, got: arena.moved.got - before.got };
    count(arena, victim, calls, rivals, hits, { sent, got }, report);
  } catch (error) {
    report.faults.push(String(error instanceof Error ? error.message : error));
  } finally {
    await arena.close();
  }
  report.faults = [...new Set(report.faults)];
  return report;
}

/** After the last run of each, left alone: the model is there, whole, and nothing else. */
async function end(arena: Arena, victim: Victim, calls: Call[], rivals: boolean, report: RoundReport, usualKey: string): Promise<void> {
  for (const [index, call] of calls.entries()) {
    const final = await attempt(arena, call, undefined);
    report.runs += 1;
    if (!mayEnd(final, rivals)) report.faults.push(`the last run: ${tail(final.ended)}`);
    if (index === 0) usual.set(usualKey, final.ms);
  }
  report.faults.push(...(await soundness(arena, victim)));
  if (victim.publishes && (await arena.manifest()) === undefined) report.faults.push('nothing is published at the end');
  if (victim.publishes) report.faults.push(...(await arena.leftInStore()).map((what) => `left behind: ${what}`));
  for (const workspace of new Set(calls.flatMap(({ workspace: each }) => each ?? []))) {
    report.faults.push(...(await arena.leftInWorkspace(workspace)).map((what) => `left behind in workspace ${what}`));
  }
  if (victim.registers) {
    const kinds = (['model', 'version', 'artifact'] as const).map((kind) => arena.registry.records(kind).length);
    const states = arena.registry.records('artifact').map(({ state }) => state);
    if (kinds.join() !== '1,1,1' || states.join() !== 'LIVE') report.faults.push(`registered ${kinds.join()}, ${states.join()}`);
  }
}

/** Done, or refused because the rival was first. */
function mayEnd({ ended }: Attempt, rivals: boolean): boolean {
  return ended.exitCode === 0 || (rivals && ended.exitCode === 7);
}

/** What holds at every moment. */
async function soundness(arena: Arena, victim: Victim): Promise<string[]> {
  const faults = await arena.wrongBytes();
  const live = arena.registry.records('artifact').some(({ state }) => state === 'LIVE');
  if (victim.registers && live && (await arena.manifest()) === undefined) faults.push('registered as LIVE, but not published');
  return faults;
}

/** A rerun sends what is missing: no more than was on its way at each hit. Rivals throw each other's parts away. */
function count(
  arena: Arena,
  victim: Victim,
  calls: Call[],
  rivals: boolean,
  hits: number,
  { sent, got }: { sent: number; got: number },
  report: RoundReport,
): void {
  const size = [...(arena.models.get(repos[0]) ?? [])].reduce(
    (sum, [, content]) => sum + ('size' in content ? content.size : content.length),
    0,
  );
  const workspaces = new Set(calls.map(({ workspace }) => workspace)).size;
  if (victim.publishes && arena.kind === 's3' && !rivals) {
    report.sentAgain = Math.max(0, sent - size);
    if (report.sentAgain > hits * inFlightBytes) report.faults.push(`${report.sentAgain} bytes were sent again after ${hits} hits`);
  }
  if (victim.resumesFromHub) {
    report.gotAgain = Math.max(0, got - size * workspaces);
    // Listings and headers of every run come on top.
    const allowed = hits * inFlightBytes + report.runs * 100_000;
    if (report.gotAgain > allowed) report.faults.push(`${report.gotAgain} bytes were downloaded again after ${hits} hits`);
  }
}
