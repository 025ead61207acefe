import { setTimeout as sleep } from 'node:timers/promises';
import { StepError } from '../errors.ts';
import type { Log } from '../log.ts';
import { controlKeys, type Published, readPublished } from '../publish/control.ts';
import { compareListing } from '../publish/inventory.ts';
import type { Store } from '../store.ts';
import { type PlanPlace, placeOf } from './place.ts';
import { type ReadPlan, readPlan } from './record.ts';

export interface OpenPlanOptions {
  store: Store;
  controlPrefix: string;
  /** The plan's key, and the digest that it must have, where that is known. */
  plan: string;
  planSha256?: string | undefined;
  /** ms to wait for another run that planned at the same place. */
  waitTimeout: number;
  signal: AbortSignal;
  log: Log;
  pollMs?: number | undefined;
}

/** A plan as one of its pods finds it: still to be worked on, or published and cleaned away. */
export type OpenedPlan = { place: PlanPlace } & ({ read: ReadPlan } | { published: Published });

/**
 * Reads a plan. A plan whose record is gone is done when its commit is published; so is one that had nothing to do and never had a record.
 * Throws `not-found` when there is neither, `transient` while another run's plan stands in its place, `integrity` when what is published
 * is not whole.
 */
export async function openPlan(options: OpenPlanOptions): Promise<OpenedPlan> {
  const { store, controlPrefix, plan: key, planSha256, waitTimeout, signal, log, pollMs = 2_000 } = options;
  const place = placeOf(controlPrefix, key);
  for (let waited = 0; ; waited += pollMs) {
    signal.throwIfAborted();
    const found = await store.get(key);
    const read = found && readPlan(found.bytes, key, `${store.uri}/${key}`);
    if (read && (planSha256 === undefined || read.sha256 === planSha256)) return { place, read: checked(read, place, store) };
    const published = await readPublished(store, controlKeys(controlPrefix, place.prefix).manifest);
    if (published?.manifest.source.commit === place.commit) {
      await compareListing(store, place.prefix, published.manifest.files, true);
      return { place, published };
    }
    if (!read) {
      throw new StepError('not-found', `failed to read plan ${store.uri}/${key}: it is not there`, {
        hint: 'it was replaced or cleaned away: make it again with the plan step',
      });
    }
    if (waited >= waitTimeout) {
      throw new StepError('transient', `failed to read plan ${store.uri}/${key}: another run has planned there since`, {
        hint: 'run it again when that run is over, or make the plan again',
      });
    }
    if (waited === 0) log.info({ plan: key }, 'waiting for another run that has planned here since');
    await sleep(pollMs, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
}

/** A record that was copied to another place must not bring its files there. */
function checked(read: ReadPlan, { prefix, commit }: PlanPlace, store: Store): ReadPlan {
  if (read.plan.prefix === prefix && read.plan.source.commit === commit) return read;
  throw new StepError('integrity', `failed to read plan ${store.uri}/${read.key}: it is about another place or commit`, {
    hint: 'make it again with the plan step',
  });
}
