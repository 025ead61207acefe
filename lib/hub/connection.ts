import { type Zone, zoneOfAddress } from '../addresses.ts';
import type { DirectRequest } from '../direct/connections.ts';
import type { Head } from '../direct/message.ts';
import { StepError } from '../errors.ts';
import type { HttpAnswer } from '../http/answer.ts';
import { networkError } from '../http/errors.ts';
import { send } from '../http/request.ts';
import type { Log } from '../log.ts';
import { agents, type Lane } from '../network.ts';
import { shownUrl } from '../shown-url.ts';
import { version } from '../version.ts';
import { type Asked, hubError } from './errors.ts';
import { nextHop, redirectStatuses, zoneOfHub } from './hops.ts';

export interface HubOptions {
  hubUrl: string;
  hubToken?: string | undefined;
  retries: number;
  stallTimeout: number;
}

/** How a run talks to the Hub. */
export interface Hub {
  /** Without a slash at its end; a mirror may have a path. */
  url: string;
  /** Where the token may go: nowhere else. */
  origin: string;
  token: string | undefined;
  retries: number;
  /** ms. */
  stallTimeout: number;
  log: Log;
  signal: AbortSignal;
  /** Where it is: what it may lead to depends on it. */
  stands: { zone?: Zone | undefined };
}

const maxRedirects = 5;

/** The Hub of a run's parameters. Throws `usage` when its address is none. */
export function hubOf({ hubUrl, hubToken, retries, stallTimeout }: HubOptions, { log, signal }: { log: Log; signal: AbortSignal }): Hub {
  const parsed = URL.canParse(hubUrl) ? new URL(hubUrl) : undefined;
  if (parsed === undefined)
    throw new StepError('usage', `failed to use --hub-url ${hubUrl}: it is no address`, { hint: 'it looks like https://host' });
  const { origin, pathname, username, password, search } = parsed;
  if (username + password + search !== '') {
    throw new StepError('usage', `failed to use --hub-url ${shownUrl(parsed)}: it holds more than an address`, {
      hint: 'a token goes into HF_TOKEN',
    });
  }
  const url = origin + pathname.replace(/\/+$/, '');
  return { url, origin, token: hubToken, retries, stallTimeout, log, signal, stands: {} };
}

export interface Followed {
  answer: HttpAnswer;
  /** The Hub's own tag of the file (sha256 or git sha1), which only its redirect carries. */
  linkedEtag: string | undefined;
}

/**
 * A GET that follows redirects by hand, at most 5, so that the token goes to the Hub's origin alone: its CDN is another one.
 * Throws as `send` does, `usage` for redirects that lead nowhere, and `refused` as nextHop says; the status is the caller's to judge.
 */
export async function follow(hub: Hub, url: string, headers: Record<string, string>, signal: AbortSignal): Promise<Followed> {
  let target = url;
  let linkedEtag: string | undefined;
  for (let hops = 0; ; hops += 1) {
    const answer = await sendTo(hub, target, headers, signal);
    linkedEtag ??= linkedEtagOf(answer);
    if (!isRedirect(answer)) return { answer, linkedEtag };
    discard(answer);
    target = nextTarget(hub, url, hops, answer);
  }
}

export interface DirectFollow {
  headers: Record<string, string>;
  into: Buffer;
  /** Judges the head at the end of the way, as for a DirectRequest. */
  accept: (head: Head, linkedEtag: string | undefined) => boolean;
  onBytes: (bytes: number) => void;
  signal: AbortSignal;
}

/** The same way with direct connections, the body straight into a buffer. Undefined where some server on the way needs `follow`. */
export async function followDirect(hub: Hub, url: string, request: DirectFollow): Promise<Head | undefined> {
  let target = url;
  let linkedEtag: string | undefined;
  for (let hops = 0; ; hops += 1) {
    const accept = (head: Head) => {
      linkedEtag ??= linkedEtagOf(head);
      return !isRedirect(head) && request.accept(head, linkedEtag);
    };
    const head = await getDirect(hub, target, { ...request, accept });
    if (head === undefined || !isRedirect(head)) return head;
    target = nextTarget(hub, url, hops, head);
  }
}

/** One GET straight into a buffer, with our headers; undefined where `send` is needed. Throws as `send` does. */
export async function getDirect(hub: Hub, url: string, request: Omit<DirectRequest, 'stallTimeout'>): Promise<Head | undefined> {
  const headers = { ...commonHeaders(hub, url), ...request.headers };
  const head = await laneTo(hub, url)
    .direct?.get(url, { ...request, headers, stallTimeout: hub.stallTimeout })
    .catch((error: unknown) => {
      throw networkError(new URL(url), error, request.signal);
    });
  if (head) look(hub, head);
  return head;
}

/** One GET with our headers, no redirect followed. Throws as `send` does. */
export async function sendTo(hub: Hub, url: string, headers: Record<string, string>, signal: AbortSignal): Promise<HttpAnswer> {
  const all = { ...commonHeaders(hub, url), ...headers };
  const answer = await send(url, { headers: all, signal, stallTimeout: hub.stallTimeout, lane: laneTo(hub, url) });
  look(hub, answer);
  return answer;
}

/** Where the Hub led to, names are looked at as they are connected to. */
function laneTo(hub: Hub, url: string): Lane {
  return new URL(url).origin === hub.origin ? agents() : agents().ledFrom(zoneOfHub(hub));
}

/** Remembers where the Hub is. What a proxy reaches for us has the proxy's address. */
function look(hub: Hub, { url, remoteAddress }: Head | HttpAnswer): void {
  if (remoteAddress === undefined || agents().direct === undefined || new URL(url).origin !== hub.origin) return;
  hub.stands.zone = zoneOfAddress(remoteAddress);
}

function isRedirect({ status, headers }: Head): boolean {
  return redirectStatuses.includes(status) && headers.location !== undefined;
}

function nextTarget(hub: Hub, from: string, hops: number, { headers: { location = '' }, url }: Head): string {
  if (hops < maxRedirects) return nextHop(hub, url, location);
  throw new StepError('usage', `failed to reach ${shownUrl(from)}: over ${maxRedirects} redirects`, {
    hint: 'check --hub-url and proxies',
  });
}

function linkedEtagOf({ headers }: Head): string | undefined {
  return bareTag(headers['x-linked-etag']);
}

/** No compression: a range of a compressed file is of no use, and weights do not shrink. */
export function commonHeaders(hub: Hub, target: string): Record<string, string> {
  const headers = { 'user-agent': `modelferry/${version}`, 'accept-encoding': 'identity' };
  if (hub.token === undefined || new URL(target).origin !== hub.origin) return headers;
  return { ...headers, authorization: `Bearer ${hub.token}` };
}

/** Throws the error behind an answer that is none of 2xx, and lets its body go, if it has one. */
export function insist(hub: Hub, doing: string, repo: string, answer: Head | HttpAnswer): void {
  if (answer.status >= 200 && answer.status < 300) return;
  if ('body' in answer) discard(answer);
  const asked: Asked = { doing, repo, hubUrl: hub.url, hasToken: hub.token !== undefined };
  throw hubError(asked, answer.status, answer.headers);
}

/** Lets a body go: a short one is read to its end, so that its connection can be used again. */
export function discard({ headers, body }: HttpAnswer): void {
  body.on('error', () => {});
  if (Number(headers['content-length'] ?? Number.POSITIVE_INFINITY) <= 64 * 1024) body.resume();
  else body.destroy();
}

/** An ETag without quotes and weakness. */
export function bareTag(header: string | string[] | undefined): string | undefined {
  return header === undefined ? undefined : [header].flat().join().replace(/^W\//, '').replaceAll('"', '');
}
