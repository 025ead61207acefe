import { randomUUID } from 'node:crypto';
import type { Store } from '../store.ts';
import { Claim } from './claim.ts';
import type { ClaimOptions } from './claim-options.ts';
import { controlKeys } from './control.ts';

export interface DeleteClaimOptions extends Pick<ClaimOptions, 'log' | 'signal' | 'withShards'> {
  prefix: string;
  controlPrefix: string;
  /** ms to wait for a run that publishes there. */
  waitTimeout?: number;
  done?: ClaimOptions['done'];
}

/** The claim under which something of a prefix is deleted, so that nobody publishes there meanwhile. Undefined and `transient` as of Claim.take. */
export async function claimToDelete(store: Store, { prefix, controlPrefix, ...how }: DeleteClaimOptions): Promise<Claim | undefined> {
  const { probe, claim } = controlKeys(controlPrefix, prefix);
  await store.probe(probe);
  const run = { store, key: claim, runId: randomUUID(), contentDigest: 'delete' };
  return await Claim.take({ waitTimeout: 0, done: async () => false, ...how, ...run });
}
