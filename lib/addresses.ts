import { lookup as dnsLookup } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';
import { StepError } from './errors.ts';

/** Whom an address means: everybody the same machine, those of one network, or the asking machine itself and its own link. */
export type Zone = 'public' | 'private' | 'loopback' | 'link-local';

type Range = [net: string, prefix: number, family: 'ipv4' | 'ipv6'];

/** RFC 6890 and RFC 4193. */
const ranges: Record<Exclude<Zone, 'public'>, Range[]> = {
  loopback: [
    ['127.0.0.0', 8, 'ipv4'],
    ['0.0.0.0', 8, 'ipv4'],
    ['::1', 128, 'ipv6'],
    ['::', 128, 'ipv6'],
  ],
  // Where clouds have their metadata services.
  'link-local': [
    ['169.254.0.0', 16, 'ipv4'],
    ['fe80::', 10, 'ipv6'],
    // AWS for IPv6 (EC2 user guide, "Instance metadata service").
    ['fd00:ec2::254', 128, 'ipv6'],
  ],
  private: [
    ['10.0.0.0', 8, 'ipv4'],
    ['172.16.0.0', 12, 'ipv4'],
    ['192.168.0.0', 16, 'ipv4'],
    ['100.64.0.0', 10, 'ipv4'],
    ['fc00::', 7, 'ipv6'],
  ],
};
/** Made when the first address is looked at: they take several ms of a program's start. */
let lists: [Zone, BlockList][] | undefined;

/** The zone of an IP address, as text. */
export function zoneOfAddress(address: string): Zone {
  const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
  lists ??= Object.entries(ranges).map(([zone, of]) => [zone as Zone, blockList(of)]);
  return lists.find(([, list]) => list.check(address, family))?.[0] ?? 'public';
}

/** The zone that a URL's host says by itself: of an address, and of localhost; undefined for other names, which only a name server knows. */
export function zoneOfHost(hostname: string): Zone | undefined {
  const host = hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '');
  if (host === 'localhost' || host.endsWith('.localhost')) return 'loopback';
  return isIP(host) === 0 ? undefined : zoneOfAddress(host);
}

/**
 * Whether a server of one zone may lead to an address of another: out into the open always, inside only from inside. To this machine and to the
 * link's own addresses nobody leads who is not there himself: a request from here could do things there that he could not.
 */
export function mayLead(from: Zone, to: Zone): boolean {
  return to === 'public' || to === from || (to === 'private' && from !== 'public');
}

/**
 * Resolves names for connections to which a server of that zone has led: other addresses than it may lead to are passed over, and when no other
 * is left it fails with `refused`. What it gives is what is connected to, so that no second answer of a name server can get past it.
 */
export function guardedLookup(from: Zone, lookup: LookupFunction = dnsLookup as LookupFunction): LookupFunction {
  return (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, found, family) => {
      if (error) return callback(error, found, family);
      const all = Array.isArray(found) ? found : [{ address: found, family: family ?? 4 }];
      const good = all.filter(({ address }) => mayLead(from, zoneOfAddress(address)));
      const [first] = good;
      if (first === undefined && all[0]) return callback(refusal(hostname, all[0].address), '');
      if (options.all) callback(null, good);
      else callback(null, first?.address ?? '', first?.family);
    });
  };
}

function refusal(hostname: string, address: string): NodeJS.ErrnoException {
  const message = `failed to reach ${hostname}: it is ${address}, a ${zoneOfAddress(address)} address`;
  return new StepError('refused', message, { hint: noBusiness });
}

/** What can be done about it. */
export const noBusiness = 'a Hub has no business there: check --hub-url; where a mirror inside is meant, give its own address';

function blockList(subnets: readonly Range[]): BlockList {
  const list = new BlockList();
  for (const subnet of subnets) list.addSubnet(...subnet);
  return list;
}
