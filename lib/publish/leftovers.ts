import { messageOf } from '../errors.ts';
import { Claim } from './claim.ts';
import type { Named } from './content.ts';
import type { ControlKeys } from './control.ts';
import type { PublishOptions } from './options.ts';
import { Uploads } from './uploads.ts';

/**
 * Takes away what a run left that was killed right after its manifest: the claim, the uploads that it names, and what the store itself knows.
 * A living run's claim stays. The model is published whatever comes of this: a failure is a warning.
 */
export async function clearLeftovers(
  options: Pick<PublishOptions, 'store' | 'log' | 'signal' | 'prefix' | 'runId' | 'claimTiming'> & { content: Pick<Named, 'digest'> },
  keys: Pick<ControlKeys, 'claim' | 'probe'>,
): Promise<void> {
  const { store, log, signal, prefix, runId, content, claimTiming } = options;
  try {
    const [left] = await Promise.all([store.head(keys.claim), store.sweep(keys)]);
    if (left === undefined) return;
    const timing = claimTiming ? { timing: claimTiming } : {};
    const take = { store, key: keys.claim, runId, contentDigest: content.digest, waitTimeout: 0, signal, log, ...timing };
    const claim = await Claim.take({ ...take, done: async () => true });
    if (claim === undefined) return;
    await new Uploads(store, claim, log).abandon(prefix);
    await claim.drop();
  } catch (error) {
    signal.throwIfAborted();
    log.warn({ prefix, error: messageOf(error) }, 'what a killed run left was not taken away');
  }
}
