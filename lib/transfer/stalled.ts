import { StepError } from '../errors.ts';
import { shownUrl } from '../shown-url.ts';

/** `transient`: a connection was no good (`how`) for the stall timeout (ms). */
export function stalled(target: string | URL, how: string, stallTimeout: number): StepError {
  return new StepError('transient', `failed to read ${shownUrl(target)}: ${how} for ${Math.round(stallTimeout / 1000)} s`);
}
