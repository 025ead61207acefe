import type { Log } from '../log.ts';
import type { Store } from '../store.ts';
import type { PlanHold } from './claim-record.ts';

export interface ClaimOptions {
  store: Store;
  key: string;
  runId: string;
  contentDigest: string;
  /** ms to wait for another live run. */
  waitTimeout: number;
  signal: AbortSignal;
  log: Log;
  /** Looked at while waiting: true means that the other run has done our work. */
  done: () => Promise<boolean>;
  timing?: ClaimTiming | undefined;
  /** The claim is that plan's: all processes that name it hold it together. */
  plan?: JoinedPlan | undefined;
  /** Whoever joins a plan's claim inherits what its shards' claims name too: to end all that is left of them. */
  withShards?: boolean | undefined;
}

export interface JoinedPlan extends PlanHold {
  /** Of the plan's record, bare hex: the holder of its claim. */
  sha256: string;
}

/** All in ms: how often a held claim is renewed, how old one may be before its holder counts as gone, how often a waiting run looks. */
export interface ClaimTiming {
  renewMs: number;
  staleMs: number;
  pollMs: number;
}

export const defaultTiming: ClaimTiming = { renewMs: 60_000, staleMs: 600_000, pollMs: 2_000 };
