import { setTimeout as sleep } from 'node:timers/promises';
import { isTransient, messageOf, StepError } from '../errors.ts';
import type { Log } from '../log.ts';

export interface RetryOptions {
  /** Tries after the first. */
  retries: number;
  signal: AbortSignal;
  log: Log;
  /** What is tried, for the log: `get model.safetensors`. */
  what: string;
}

const firstWaitMs = 200;
const longestWaitMs = 30_000;
/** A server that asks for more is not waited for: the engine's own retry comes later than that. */
export const longestRetryAfterMs = 300_000;

/**
 * Calls `work` until it succeeds, a permanent error comes or the tries are used up. Waits between tries: the server's Retry-After,
 * else exponential with full jitter, so that many pods do not come back at once.
 */
export async function retry<T>({ retries, signal, log, what }: RetryOptions, work: (attempt: number) => Promise<T>): Promise<T> {
  for (let attempt = 0; ; attempt += 1) {
    signal.throwIfAborted();
    try {
      return await work(attempt);
    } catch (error) {
      signal.throwIfAborted();
      if (!isTransient(error) || attempt >= retries) throw error;
      const asked = error instanceof StepError ? error.retryAfterMs : undefined;
      if (asked !== undefined && asked > longestRetryAfterMs) throw error;
      const waitMs = asked ?? Math.random() * Math.min(longestWaitMs, firstWaitMs * 2 ** attempt);
      log.warn({ what, attempt: attempt + 1, waitMs: Math.round(waitMs), error: messageOf(error) }, 'trying again');
      await sleep(waitMs, undefined, { signal }).catch(() => signal.throwIfAborted());
    }
  }
}

/**
 * How long (ms) an answer asks to wait: by Retry-After, which any status may have that is no success, or by the `t` of a 429's RateLimit, as the Hub
 * writes it (IETF draft-ietf-httpapi-ratelimit-headers). Undefined when it does not ask.
 */
export function askedWaitMs(status: number, headers: Readonly<Record<string, string | string[] | undefined>>): number | undefined {
  if (status < 400) return undefined;
  const { 'retry-after': asked, ratelimit } = headers;
  const wait = retryAfterMs(asked === undefined ? undefined : String(asked));
  if (wait !== undefined || status !== 429) return wait;
  return retryAfterMs(/;\s*t=(\d+)/.exec(String(ratelimit ?? ''))?.[1]);
}

/** Retry-After in ms, from seconds or an HTTP date (RFC 9110, 10.2.3); undefined when there is none. */
export function retryAfterMs(header: string | undefined, now = Date.now()): number | undefined {
  if (header === undefined) return undefined;
  const at = /^\d+$/.test(header.trim()) ? now + Number(header) * 1000 : Date.parse(header);
  return Number.isNaN(at) ? undefined : Math.max(0, at - now);
}
