import type { Manifest } from '../../lib/manifest.ts';
import { sizeOf } from '../fakes/content.ts';
import { Arena, inFlightBytes, repos, type StoreKind } from './arena.ts';
import { heldModels, leftInFolder } from './folders.ts';
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

/** Who waits for another one comes again so often at most. */
const mostStages = 8;

/**
 * One target, one to three writers, a few tries of each of which most are hit; then each is run once more and left alone, and what comes after
 * it has its turn. What must hold is looked at after every try.
 */
export async function round(victim: Victim, kind: StoreKind, random: Random): Promise<RoundReport> {
  const arena = await Arena.open(kind, random.pick(victim.shardBytes));
  const writers = random.chance(1 / 3) ? random.between(2, 3) : 1;
  const shared = random.chance(0.5);
  const rivals = writers > 1 && victim.publishes && !victim.registers && random.chance(0.4);
  const name = `${victim.name} ${kind} ${writers > 1 ? `${writers} ${rivals ? 'rivals' : 'writers'}${shared ? ', one workspace' : ''}` : '1 writer'}`;
  const report: RoundReport = { name, kills: { SIGKILL: 0, SIGTERM: 0 }, runs: 0, sentAgain: 0, gotAgain: 0, faults: [] };
  const fight = new Fight(arena, victim, rivals, random, report);
  try {
    const calls: Call[] = [];
    for (let writer = 0; writer < writers; writer += 1) {
      calls.push(await victim.call(arena, rivals && writer % 2 === 1 ? repos[1] : repos[0], writer, shared));
    }
    const before = arena.moved;
    let stage = calls;
    for (let stages = 0; stage.length > 0; stages += 1) {
      if (stages === mostStages) throw new Error(`still not through: ${stage.map(({ program }) => program).join(', ')}`);
      await fight.tries(stage);
      stage = await fight.inPeace(stage);
    }
    await end(arena, victim, calls, report);
    const { sent, got } = { sent: arena.moved.sent - before.sent, got: arena.moved.got - before.got };
    count(arena, victim, calls, rivals, fight.hits, { sent, got }, report);
  } catch (error) {
    report.faults.push(String(error instanceof Error ? error.message : error));
  } finally {
    await arena.close();
  }
  report.faults = [...new Set(report.faults)];
  return report;
}

class Fight {
  /** Runs that did not come to their end. */
  hits = 0;
  readonly #arena: Arena;
  readonly #victim: Victim;
  readonly #rivals: boolean;
  readonly #random: Random;
  readonly #report: RoundReport;

  constructor(arena: Arena, victim: Victim, rivals: boolean, random: Random, report: RoundReport) {
    this.#arena = arena;
    this.#victim = victim;
    this.#rivals = rivals;
    this.#random = random;
    this.#report = report;
  }

  /** All side by side, most of them hit, a few times. */
  async tries(calls: readonly Call[]): Promise<void> {
    for (let tries = this.#random.between(1, 4); tries > 0; tries -= 1) {
      const strikes = calls.map((call) =>
        this.#random.chance(0.85) ? chooseStrike(this.#random, usual.get(this.#nameOf(call)) ?? 1500, call, this.#arena.kind) : undefined,
      );
      for (const each of await Promise.all(calls.map((call, index) => attempt(this.#arena, call, strikes[index])))) {
        this.#report.runs += 1;
        if (each.struck) this.#report.kills[each.struck] += 1;
        if (each.struck || each.ended.exitCode !== 0) this.hits += 1;
        if (!each.struck) this.#judge('a run that was not hit', each);
      }
      await this.#look(calls);
    }
  }

  /** One after the other, and nobody is hit. Gives what comes next. */
  async inPeace(calls: readonly Call[]): Promise<Call[]> {
    const next: Call[] = [];
    for (const call of calls) {
      const last = await attempt(this.#arena, call, undefined);
      this.#report.runs += 1;
      this.#judge(`the last run of ${call.program}`, last);
      // One that finds the work done is quick.
      usual.set(this.#nameOf(call), Math.max(last.ms, usual.get(this.#nameOf(call)) ?? 0));
      next.push(...((await call.next?.(last.ended)) ?? []));
    }
    await this.#look(calls);
    return next;
  }

  #nameOf({ program }: Call): string {
    return `${this.#victim.name}: ${program}`;
  }

  /** Done, or refused because the rival was first, or in the way. */
  #judge(what: string, { ended }: Attempt): void {
    const good = [0, ...(this.#rivals ? [7] : []), ...this.#victim.gives];
    if (!good.includes(ended.exitCode ?? -1)) this.#report.faults.push(`${what}: ${tail(ended)}`);
  }

  /** What holds at every moment. */
  async #look(calls: readonly Call[]): Promise<void> {
    const { faults } = this.#report;
    faults.push(...(await this.#arena.wrongBytes()));
    for (const workspace of workspacesOf(calls)) faults.push(...(await this.#arena.wrongLocally(workspace)));
    const live = this.#arena.registry.records('artifact').some(({ state }) => state === 'LIVE');
    if (this.#victim.registers && live && (await this.#arena.published()) === undefined)
      faults.push('registered as LIVE, but not published');
  }
}

/** When all are through: the model is there, whole, and nothing else. */
async function end(arena: Arena, victim: Victim, calls: readonly Call[], report: RoundReport): Promise<void> {
  const published = (await arena.published())?.manifest;
  const isWanted = (manifest: Manifest | undefined) =>
    manifest !== undefined && calls.some(({ env }) => (env.METHOD === undefined) === (manifest.derived === undefined));
  if (victim.publishes && !isWanted(published)) report.faults.push('nothing is published at the end');
  if (victim.publishes) report.faults.push(...(await arena.leftInStore()).map((what) => `left behind: ${what}`));
  // What a refused run has made so far stays in its own workspace.
  const through = arena.references.size > 0 && victim.publishes ? calls.filter(({ repo }) => repo === published?.source.repo) : calls;
  for (const workspace of workspacesOf(through)) {
    const dir = arena.workspace(workspace);
    report.faults.push(...(await leftInFolder(dir, victim.named)).map((what) => `left behind in workspace ${workspace}: ${what}`));
    const held = await heldModels(dir);
    const whole = held.some(({ manifest }) => isWanted(manifest));
    if (!whole && victim.name !== 'register') report.faults.push(`workspace ${workspace} has no model at the end`);
  }
  if (victim.registers) {
    const kinds = (['model', 'version', 'artifact'] as const).map((kind) => arena.registry.records(kind).length);
    const states = arena.registry.records('artifact').map(({ state }) => state);
    if (kinds.join() !== '1,1,1' || states.join() !== 'LIVE') report.faults.push(`registered ${kinds.join()}, ${states.join()}`);
  }
}

/** A rerun sends what is missing: no more than was on its way at each hit. Rivals throw each other's parts away. */
function count(
  arena: Arena,
  victim: Victim,
  calls: readonly Call[],
  rivals: boolean,
  hits: number,
  { sent, got }: { sent: number; got: number },
  report: RoundReport,
): void {
  const size = [...(arena.models.get(repos[0]) ?? [])].reduce((sum, [, content]) => sum + sizeOf(content), 0);
  if (victim.publishes && arena.kind === 's3' && !rivals) {
    report.sentAgain = Math.max(0, sent - (arena.references.get(repos[0])?.manifest.totalBytes ?? size));
    if (report.sentAgain > hits * inFlightBytes) report.faults.push(`${report.sentAgain} bytes were sent again after ${hits} hits`);
  }
  if (victim.resumesFromHub) {
    report.gotAgain = Math.max(0, got - size * new Set(calls.map(({ workspace, repo }) => `${workspace} ${repo}`)).size);
    // Listings and headers of every run come on top.
    const allowed = hits * inFlightBytes + report.runs * 100_000;
    if (report.gotAgain > allowed) report.faults.push(`${report.gotAgain} bytes were downloaded again after ${hits} hits`);
  }
}

function workspacesOf(calls: readonly Call[]): string[] {
  return [...new Set(calls.flatMap(({ workspace }) => workspace ?? []))];
}
