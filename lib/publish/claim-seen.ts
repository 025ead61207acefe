import { isGone } from '../holder.ts';
import type { ObjectInfo } from '../store.ts';
import type { ClaimOptions, ClaimTiming } from './claim-options.ts';
import { type ClaimRecord, parseClaim } from './claim-record.ts';

/** A claim's object as a run finds it that wants it. */
export interface Seen {
  info: ObjectInfo | undefined;
  /** Undefined when there is no object, or one that cannot be read. */
  written: ClaimRecord | undefined;
  ageMs: number;
  /** It is held by the plan that the run belongs to. */
  joins: boolean;
}

/** Looks at the claim's object. Throws as the store does. */
export async function see({ store, key, plan }: Pick<ClaimOptions, 'store' | 'key' | 'plan'>): Promise<Seen> {
  const found = await store.get(key);
  const written = found && parseClaim(found.bytes);
  const ageMs = found ? store.now().getTime() - found.info.lastModified.getTime() : 0;
  return { info: found?.info, written, ageMs, joins: plan !== undefined && written?.holder === plan.sha256 };
}

/** The record of a run that lives and must be waited for; undefined when the claim may be taken. */
export function livePeer({ written, ageMs, joins }: Seen, runId: string, { staleMs }: ClaimTiming): ClaimRecord | undefined {
  if (written === undefined || joins || isFree(written, runId)) return undefined;
  return ageMs < Math.max(staleMs, written.plan?.holdMs ?? 0) ? written : undefined;
}

/** Ours from an earlier try, given back, or of a process of this machine that is gone. */
function isFree({ released, runId, process }: ClaimRecord, own: string): boolean {
  return released || runId === own || (process !== undefined && isGone(process) === true);
}

/** What one can do who finds a live claim. */
export function wayOut({ plan }: ClaimRecord): string {
  if (plan === undefined) return 'run it again when that run is over, or give a longer --wait-timeout';
  return `run it again when that run is over; if it will never go on: finish --abandon --plan ${plan.key}`;
}
