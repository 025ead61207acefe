import type { Ended } from '../fakes/program.ts';
import type { RepoId } from './arena.ts';
import type { Call } from './victims.ts';

/** A live plan is not waited for longer than that: its pods are only run when the others have ended. */
const patience = { WAIT_TIMEOUT: '1s' };

/** A plan, then its shards side by side, then finish; `rival`: a sync of the same target, or one more plan, that comes again while it is told to. */
export function planned(repo: RepoId, run: number, rival: boolean): Call {
  const common = { MODEL_ID: repo, RUN_ID: `${repo}-${run}`, ...patience };
  if (rival) return again({ program: 'sync', repo, env: common });
  const shards = run % 2 === 0 ? '3' : '2';
  return again({
    program: 'plan',
    repo,
    env: { ...common, SHARDS: shards },
    next: async (ended) => (ended.exitCode === 0 ? shardsOf(ended, repo) : []),
  });
}

function shardsOf({ stdout }: Ended, repo: RepoId): Call[] {
  const results = JSON.parse(stdout) as Record<string, string>;
  const env = { PLAN: results.plan ?? '', PLAN_SHA256: results['plan-sha256'] ?? '', ...patience };
  const calls: Call[] = (JSON.parse(results.shards ?? '[]') as string[]).map((shard) => ({
    program: 'sync',
    repo,
    env: { ...env, SHARD: shard },
  }));
  const last = calls.at(-1);
  // All are through when the last one is.
  if (last) last.next = async () => [{ program: 'finish', repo, env }];
  return calls;
}

/** As an engine does with exit code 5: it is run again later. */
function again(call: Call): Call {
  const { next } = call;
  const whole: Call = { ...call, next: async (ended) => (ended.exitCode === 5 ? [whole] : ((await next?.(ended)) ?? [])) };
  return whole;
}
