import { mkdirSync, watch as watchFolder } from 'node:fs';
import type { Ended } from '../fakes/program.ts';
import { Program } from '../fakes/program.ts';
import type { FakeServer } from '../fakes/server.ts';
import type { Arena, StoreKind } from './arena.ts';
import type { Random } from './random.ts';
import type { Call } from './victims.ts';

export type Signal = 'SIGKILL' | 'SIGTERM';

/** When a process is hit: after a time, at the nth request that a server sees or has answered, line of its log, or change in its workspace or the store's folder. */
export interface Strike {
  signal: Signal;
  at: { ms: number } | { request: number } | { answer: number } | { line: number } | { change: number; in: 'workspace' | 'store' };
}

export interface Attempt {
  ended: Ended;
  /** The signal that ended it; undefined when it was through before. */
  struck: Signal | undefined;
  ms: number;
}

/** `usualMs`: how long such a run takes when it is left alone. */
export function chooseStrike(random: Random, usualMs: number, { env, offline, workspace }: Call, kind: StoreKind): Strike {
  const signal = random.chance(1 / 3) ? 'SIGTERM' : 'SIGKILL';
  const time = { ms: random.between(1, Math.ceil(usualMs)) };
  const ofDisk = { change: random.between(1, 80), in: 'workspace' } as const;
  // Each part of a file is a few of them.
  const ofStore = { change: random.between(1, 400), in: 'store' } as const;
  // The first thirty are questions; bytes move behind them.
  const nth = () => (random.chance(0.4) ? random.between(1, 30) : random.between(25, 60));
  const ofWire = [{ request: nth() }, { answer: nth() }];
  const at = random.pick<Strike['at']>([
    time,
    { line: random.between(1, 8) },
    ...(!offline && (kind === 's3' || env.MODEL_ID !== undefined) ? ofWire : [time, ofDisk]),
    ...(workspace === undefined ? [] : [ofDisk]),
    ...(kind === 'folder' && !offline ? [ofStore] : []),
  ]);
  return { signal, at };
}

/** How long (ms) a process may take to end after SIGTERM: Kubernetes gives 30 s. */
const graceMs = 26_000;
/** No run of the few megabytes here takes so long (ms) unless it hangs. */
const hangMs = 120_000;

/** Runs a call, and hits it once if a strike is given. Never leaves a process behind. */
export async function attempt(arena: Arena, call: Call, strike: Strike | undefined): Promise<Attempt> {
  const { program, env } = call;
  const startedAt = performance.now();
  const run = new Program(program, [], { ...arena.env, ...env, ...arena.more }, undefined, arena.via);
  let struckAt = 0;
  const hit = () => {
    if (strike === undefined || struckAt > 0 || run.child.exitCode !== null) return;
    struckAt = performance.now();
    run.child.kill(strike.signal);
  };
  const calm = strike && watch(arena, call, run, strike.at, hit);
  const hung = setTimeout(() => run.child.kill('SIGKILL'), hangMs);
  const ended = await run.ended;
  clearTimeout(hung);
  calm?.();
  const ms = performance.now() - startedAt;
  if (ms > hangMs) throw new Error(`${program} hangs: ${tail(ended)}`);
  if (struckAt > 0 && ms - (struckAt - startedAt) > graceMs)
    throw new Error(`${program} takes over ${graceMs} ms to end by ${strike?.signal}`);
  // Killed by the signal itself, or ended by our own handler: else it was through before.
  const struck = struckAt > 0 && (ended.exitCode === null || ended.exitCode === 143) ? strike?.signal : undefined;
  return { ended, struck, ms };
}

/** The end of a log, for a report. */
export function tail({ exitCode, stderr }: Ended): string {
  return `exit ${exitCode}: ${stderr.split('\n').slice(-4).join(' | ').slice(-1500)}`;
}

function watch(arena: Arena, { workspace }: Call, { child }: Program, at: Strike['at'], hit: () => void): () => void {
  if ('ms' in at) {
    const timer = setTimeout(hit, at.ms);
    return () => clearTimeout(timer);
  }
  let seen = 0;
  const count = (wanted: number) => {
    seen += 1;
    if (seen === wanted) hit();
  };
  if ('line' in at) {
    child.stderr?.on('data', (text: Buffer) => {
      for (const _ of text.toString().matchAll(/\n/g)) count(at.line);
    });
    return () => {};
  }
  if ('change' in at) {
    const dir = at.in === 'store' ? arena.storeDir : arena.workspace(workspace ?? '');
    mkdirSync(dir, { recursive: true });
    const watcher = watchFolder(dir, { recursive: true }, () => count(at.change));
    // What goes away while it is looked at is no fault.
    watcher.on('error', () => {});
    return () => watcher.close();
  }
  const servers: FakeServer[] = [arena.hub.hub, arena.hub.cdn, arena.s3, arena.registry.server];
  if ('request' in at) {
    const on = () => {
      count(at.request);
      return false;
    };
    const removals = servers.map((server) => server.fail({ on }));
    return () => {
      for (const remove of removals) remove();
    };
  }
  // Writers side by side each have their own count.
  const earlier = servers.map((server) => server.onDone);
  for (const [index, server] of servers.entries()) {
    server.onDone = (request) => {
      earlier[index]?.(request);
      count(at.answer);
    };
  }
  return () => {};
}
