import { BlockList, isIP } from 'node:net';
import { StepError } from '../errors.ts';
import { shownUrl } from '../http.ts';

/** Addresses that mean another machine to everybody: this one, and the link's own, where clouds have their metadata services (RFC 6890). */
const zones = {
  loopback: blockList([
    ['127.0.0.0', 8, 'ipv4'],
    ['0.0.0.0', 8, 'ipv4'],
    ['::1', 128, 'ipv6'],
    ['::', 128, 'ipv6'],
  ]),
  'link-local': blockList([
    ['169.254.0.0', 16, 'ipv4'],
    ['fe80::', 10, 'ipv6'],
    // Where AWS has its metadata service for IPv6 (EC2 user guide, "Instance metadata service").
    ['fd00:ec2::254', 128, 'ipv6'],
  ]),
};

/**
 * Where a redirect of the Hub leads to. Throws `usage` when that is no address, and `refused` when a Hub elsewhere leads to this machine or to
 * the link's own addresses: nothing that it may see is there, and a request from here could do things there. Names are not resolved.
 */
export function nextHop(hubUrl: string, from: string, location: string): string {
  const next = URL.canParse(location, from) ? new URL(location, from) : undefined;
  if (next === undefined || !/^https?:$/.test(next.protocol)) {
    throw new StepError('usage', `failed to reach ${shownUrl(from)}: a redirect to no address`, { hint: 'check --hub-url and proxies' });
  }
  const zone = zoneOf(next.hostname);
  if (zone === undefined || zone === zoneOf(new URL(hubUrl).hostname)) return next.href;
  throw new StepError('refused', `failed to reach ${shownUrl(from)}: it redirects to ${next.host}, a ${zone} address`, {
    hint: 'a Hub has no business there: check --hub-url',
  });
}

function zoneOf(hostname: string): string | undefined {
  const host = hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '');
  if (host === 'localhost' || host.endsWith('.localhost')) return 'loopback';
  const family = isIP(host);
  if (family === 0) return undefined;
  return Object.entries(zones).find(([, zone]) => zone.check(host, family === 4 ? 'ipv4' : 'ipv6'))?.[0];
}

function blockList(subnets: readonly [string, number, 'ipv4' | 'ipv6'][]): BlockList {
  const list = new BlockList();
  for (const subnet of subnets) list.addSubnet(...subnet);
  return list;
}
