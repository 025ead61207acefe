import { readFileSync } from 'node:fs';
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import type { LookupFunction } from 'node:net';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { guardedLookup, type Zone } from './addresses.ts';
import { DirectConnections } from './direct/connections.ts';
import { messageOf, StepError } from './errors.ts';
import type { Log } from './log.ts';
import { Pace } from './transfer/pace.ts';

export interface NetworkOptions {
  /** Path of a PEM file, added to the roots that Node and the system trust. */
  caBundle?: string | undefined;
  insecureSkipTlsVerify?: boolean;
  /** Where HTTPS_PROXY, HTTP_PROXY and NO_PROXY are read from. */
  proxyEnv?: NodeJS.ProcessEnv;
  /** Bytes per second that all connections together may take in, and as many out. */
  bandwidthLimit?: number | undefined;
  /** What resolves names; default: the system's own. */
  lookup?: LookupFunction | undefined;
  log?: Log;
}

/** Connections that are used again among themselves. */
export interface Lane {
  http: HttpAgent;
  https: HttpsAgent;
  /** For bulk ranges; undefined where a proxy may be in between. */
  direct: DirectConnections | undefined;
}

export interface Agents extends Lane {
  /** What every request of the run keeps to. */
  pace: Pace;
  /**
   * For where a server of that zone leads to (guardedLookup). They share no connection with others, whose names were not looked at like that.
   * The same as all else where a proxy resolves names.
   */
  ledFrom: (zone: Zone) => Lane;
}

let shared: (Agents & { close: () => void }) | undefined;

/** Sets roots, proxies and verification for every connection of this process. Throws `usage` when the bundle is no PEM file. */
export function setUpNetwork({ caBundle, insecureSkipTlsVerify = false, proxyEnv, bandwidthLimit, lookup, log }: NetworkOptions): void {
  if (caBundle !== undefined) trust(caBundle);
  const rejectUnauthorized = !insecureSkipTlsVerify;
  const pace = new Pace({ bandwidthLimit, log });
  const proxied = hasProxy(proxyEnv);
  const laneOf = (lookup: LookupFunction | undefined): Lane => {
    // More sockets than the default of idle ones may be kept: every connection of --concurrency is used again.
    const common = { keepAlive: true, maxFreeSockets: 256, scheduling: 'lifo' as const, ...(proxyEnv ? { proxyEnv } : {}) };
    const options = { ...common, ...(lookup ? { lookup } : {}) };
    return {
      http: new HttpAgent(options),
      https: new HttpsAgent({ ...options, rejectUnauthorized }),
      direct: proxied ? undefined : new DirectConnections({ rejectUnauthorized, pace, lookup }),
    };
  };
  const lanes = new Map<Zone, Lane>();
  const plain = laneOf(lookup);
  const ledFrom = (zone: Zone): Lane => {
    const lane = lanes.get(zone) ?? (proxied ? plain : laneOf(guardedLookup(zone, lookup)));
    lanes.set(zone, lane);
    return lane;
  };
  const close = () => {
    for (const { http, https, direct } of [plain, ...lanes.values()]) {
      http.destroy();
      https.destroy();
      direct?.destroy();
    }
  };
  shared = { ...plain, pace, ledFrom, close };
}

function hasProxy(env: NodeJS.ProcessEnv = {}): boolean {
  return Object.entries(env).some(([name, value]) => /^(https?|all)_proxy$/i.test(name) && value);
}

/** The agents that every client uses: keep-alive, proxies, and the roots of setUpNetwork. */
export function agents(): Agents {
  if (shared === undefined) setUpNetwork({});
  return shared as Agents;
}

/** Closes idle and open connections, so that the process can end. */
export function closeNetwork(): void {
  shared?.close();
  shared = undefined;
}

function trust(path: string): void {
  try {
    setDefaultCACertificates([...getCACertificates('default'), ...getCACertificates('system'), readFileSync(path, 'utf8')]);
  } catch (error) {
    const hint = 'give the path of a PEM file to --ca-bundle (AWS_CA_BUNDLE and SSL_CERT_FILE count too)';
    throw new StepError('usage', `failed to read CA bundle ${path}: ${messageOf(error)}`, { hint, cause: error });
  }
}
