import { mayLead, noBusiness, type Zone, zoneOfHost } from '../addresses.ts';
import { StepError } from '../errors.ts';
import { shownUrl } from '../shown-url.ts';

/** RFC 9110, 15.4: with a Location they lead elsewhere. */
export const redirectStatuses = [301, 302, 303, 307, 308];

/** Where a Hub is, as far as redirects are concerned. */
export interface Standing {
  url: string;
  /** The zone of the address that it was reached at last; undefined before, and where a proxy reaches it for us. */
  stands: { zone?: Zone | undefined };
}

/** The zone that a Hub leads from. One that nobody knows counts as one of the internet. */
export function zoneOfHub({ url, stands }: Standing): Zone {
  return stands.zone ?? zoneOfHost(new URL(url).hostname) ?? 'public';
}

/**
 * Where a redirect of the Hub leads to. Throws `usage` when that is no address, and `refused` when the Hub may not lead there (mayLead).
 * A name is let through: what it means is looked at when it is connected to.
 */
export function nextHop(hub: Standing, from: string, location: string): string {
  const next = URL.canParse(location, from) ? new URL(location, from) : undefined;
  if (next === undefined || !/^https?:$/.test(next.protocol)) {
    throw new StepError('usage', `failed to reach ${shownUrl(from)}: a redirect to no address`, { hint: 'check --hub-url and proxies' });
  }
  const zone = zoneOfHost(next.hostname);
  if (zone === undefined || mayLead(zoneOfHub(hub), zone)) return next.href;
  const message = `failed to reach ${shownUrl(from)}: it redirects to ${next.host}, a ${zone} address`;
  throw new StepError('refused', message, { hint: noBusiness });
}
