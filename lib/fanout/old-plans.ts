import type { Log } from '../log.ts';
import { parseClaim } from '../publish/claim-record.ts';
import { controlKeys } from '../publish/control.ts';
import { claimToDelete } from '../publish/delete-claim.ts';
import type { Leftover } from '../publish/orphans.ts';
import { Uploads } from '../publish/uploads.ts';
import type { ObjectInfo, Store } from '../store.ts';
import { planOfRecord } from './place.ts';

export interface OldPlansOptions {
  controlPrefix: string;
  /** What is younger (ms) is left alone. */
  ageMs: number;
}

/**
 * The records of plans that nobody goes on with, by the prefix that they are about: each of them is old, and no claim is younger, nor held for a
 * plan. The model may be published since, by another run.
 */
export async function findOldPlans(store: Store, { controlPrefix, ageMs }: OldPlansOptions): Promise<Leftover[]> {
  const plans = new Map<string, { prefix: string; records: ObjectInfo[] }>();
  for await (const info of store.list(`${controlPrefix}/plans/`)) {
    const place = planOfRecord(controlPrefix, info.key);
    if (place === undefined) continue;
    const plan = plans.get(place.key) ?? { prefix: place.prefix, records: [] };
    plans.set(place.key, plan);
    plan.records.push(info);
  }
  const age = ({ lastModified }: ObjectInfo) => store.now().getTime() - lastModified.getTime();
  const found = new Map<string, Leftover>();
  for (const { prefix, records } of plans.values()) {
    if (records.some((info) => age(info) <= ageMs)) continue;
    const claim = await store.get(controlKeys(controlPrefix, prefix).claim);
    const heldMs = (claim && parseClaim(claim.bytes)?.plan?.holdMs) ?? 0;
    if (claim && age(claim.info) <= Math.max(ageMs, heldMs)) continue;
    const leftover = found.get(prefix) ?? { prefix, objects: [], records: [], uploads: [] };
    found.set(prefix, leftover);
    leftover.records.push(...records.map(({ key }) => key));
  }
  return [...found.values()];
}

/** Deletes them under a claim of its own, with the uploads that they name. Throws `transient` when somebody works there by now. */
export async function removeOldPlans(
  store: Store,
  { prefix, records }: Leftover,
  { controlPrefix, log, signal }: { controlPrefix: string; log: Log; signal: AbortSignal },
): Promise<boolean> {
  const claim = await claimToDelete(store, { prefix, controlPrefix, log, signal, withShards: true });
  if (claim === undefined) return false;
  try {
    await new Uploads(store, claim, log).abandon(prefix);
    await store.delete(records);
    return true;
  } finally {
    await claim.drop();
  }
}
