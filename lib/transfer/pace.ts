import type { Log } from '../log.ts';
import { Governor, type Turn } from './governor.ts';
import { Rate } from './rate.ts';

/** How fast a run may go: one governor for each origin that it asks, one rate for all that comes in and one for all that goes out. */
export class Pace {
  readonly in: Rate;
  readonly out: Rate;
  readonly #log: Log | undefined;
  readonly #governors = new Map<string, Governor>();

  /** `bandwidthLimit`: bytes per second, each way; undefined: none. */
  constructor({ bandwidthLimit = Number.POSITIVE_INFINITY, log }: { bandwidthLimit?: number | undefined; log?: Log | undefined } = {}) {
    this.in = new Rate(bandwidthLimit);
    this.out = new Rate(bandwidthLimit);
    this.#log = log;
  }

  /** Waits for a place among the requests to an origin; throws as a Governor does. */
  enter(origin: string, signal?: AbortSignal): Promise<Turn> {
    let governor = this.#governors.get(origin);
    if (governor === undefined) {
      const onOverload = (requests: number, waitMs: number) =>
        this.#log?.warn({ origin, requests, waitMs: Math.round(waitMs) }, 'the server asks for less: fewer requests at once');
      governor = new Governor({ onOverload });
      this.#governors.set(origin, governor);
    }
    return governor.enter(signal);
  }
}
