import { s3Answer } from '../fakes/s3.ts';
import type { Fault } from '../fakes/server.ts';
import { deaf, meddledTls, named, type World, withoutName } from './worlds.ts';

export type Side = 'hub' | 'cdn' | 's3' | 'registry';

export interface NamedFault {
  name: string;
  side: Side | 'dns' | 'tls' | 'all';
  /** What goes wrong with requests on that side. */
  fault?: Fault;
  /** Or with more than that. */
  world?: World;
  /** It passes: every step must get over it. Else an exit code that says what it is will do, too. */
  passes: boolean;
}

const weights = /^GET .*/;
const listing = /^GET \/api\/.*tree/;
const always = Number.POSITIVE_INFINITY;
const internalError = '<?xml version="1.0"?><Error><Code>InternalError</Code><Message>try again</Message></Error>';
const html = '<html><body>Sign in to the network</body></html>';
const redirect = (location: string) => ({ status: 302, headers: { location } });
const inTwoSeconds = () => new Date(Date.now() + 2000).toUTCString();

const passing = (name: string, side: Side, fault: Fault): NamedFault => ({ name, side, fault, passes: true });
const lasting = (name: string, side: Side, fault: Fault): NamedFault => ({ name, side, fault: { times: always, ...fault }, passes: false });

const inWorld = (name: string, side: NamedFault['side'], passes: boolean, world: World): NamedFault => ({ name, side, world, passes });
const [hour, secondsLate] = [3_600_000, 3000];

/** What servers, and whatever stands before them, do. */
export const faults: readonly NamedFault[] = [
  passing('500 three times', 'hub', { on: /./, times: 3, answer: { status: 500 } }),
  passing('429 with Retry-After in seconds', 'hub', { on: /./, times: 2, answer: { status: 429, headers: { 'retry-after': '1' } } }),
  passing('429 with Retry-After as a date', 'hub', {
    on: /./,
    times: 1,
    answer: { status: 429, headers: { 'retry-after': inTwoSeconds() } },
  }),
  passing('reset before the answer', 'hub', { on: /./, times: 3, cutAfter: -1 }),
  passing('listing cut in the middle', 'hub', { on: listing, times: 2, cutAfter: 300 }),
  lasting('listing that is short', 'hub', { on: listing, shortAfter: 300 }),
  passing('silent once', 'hub', { on: listing, stallAfter: -1 }),
  lasting('silent for good', 'hub', { on: /./, stallAfter: -1 }),
  lasting('an HTML page for an answer', 'hub', { on: /./, answer: { status: 200, headers: { 'content-type': 'text/html' }, body: html } }),
  lasting('JSON that is none of ours', 'hub', {
    on: /./,
    answer: { status: 200, headers: { 'content-type': 'application/json' }, body: '{"sha":5}' },
  }),
  lasting('redirects in a loop', 'hub', { on: /./, answer: redirect('/again') }),
  lasting('redirect to the metadata service', 'hub', { on: /resolve/, answer: redirect('http://169.254.169.254/latest/meta-data/') }),
  lasting('redirect to no address', 'hub', { on: /resolve/, answer: redirect('http://[') }),
  lasting('redirect to another scheme', 'hub', { on: /resolve/, answer: redirect('file:///etc/passwd') }),
  lasting('401', 'hub', { on: /./, answer: { status: 401 } }),
  lasting('418', 'hub', { on: /./, answer: { status: 418 } }),
  passing('weights cut three times', 'cdn', { on: weights, times: 3, cutAfter: 100_000 }),
  passing('weights cut after the headers', 'cdn', { on: weights, times: 3, cutAfter: 0 }),
  passing('weights that are short', 'cdn', { on: weights, times: 2, shortAfter: 1000 }),
  passing('weights silent once', 'cdn', { on: weights, times: 2, stallAfter: 5000 }),
  passing('503 from the CDN', 'cdn', { on: weights, times: 3, answer: { status: 503 } }),
  lasting('links that are never good', 'cdn', { on: weights, answer: { status: 403 } }),
  lasting('a wrong byte, always', 'cdn', { on: weights, flipByteAt: 7 }),
  lasting('a page for weights', 'cdn', { on: weights, answer: { status: 200, headers: { 'content-type': 'text/html' }, body: html } }),
  lasting('206 with another range', 'cdn', {
    on: weights,
    answer: { status: 206, headers: { 'content-range': 'bytes 5-9/100' }, body: 'wrong' },
  }),
  lasting('CDN silent for good', 'cdn', { on: weights, stallAfter: 100 }),
  passing('S3 SlowDown', 's3', { on: /./, times: 3, answer: s3Answer('SlowDown', { headers: { 'retry-after': '0' } }) }),
  passing('S3 500', 's3', { on: /^(PUT|POST)/, times: 3, answer: s3Answer('InternalError') }),
  passing('InternalError inside a 200 to a completion', 's3', {
    on: /^POST .*uploadId/,
    times: 2,
    answer: { status: 200, body: internalError },
  }),
  passing('a completion whose answer is lost', 's3', { on: /^POST .*uploadId/, times: 1, loseAnswer: true }),
  passing('every put answered late, once lost', 's3', { on: /^PUT/, skip: 3, times: 2, loseAnswer: true }),
  passing('NoSuchUpload in the middle', 's3', { on: /^PUT .*partNumber=2/, times: 1, answer: s3Answer('NoSuchUpload') }),
  passing('reset while parts are sent', 's3', { on: /^PUT .*partNumber/, times: 3, cutAfter: -1 }),
  passing('bytes that came wrong', 's3', { on: /^PUT .*partNumber/, times: 2, answer: s3Answer('BadDigest') }),
  passing('S3 silent once', 's3', { on: /^PUT/, times: 1, stallAfter: -1 }),
  lasting('S3 silent for good', 's3', { on: /./, stallAfter: -1 }),
  lasting('403 for puts alone', 's3', { on: /^PUT/, answer: s3Answer('AccessDenied') }),
  lasting('403 for listings alone', 's3', { on: /list-type=2/, answer: s3Answer('AccessDenied') }),
  lasting('clocks that differ', 's3', { on: /./, answer: s3Answer('RequestTimeTooSkewed') }),
  lasting('an expired token', 's3', { on: /./, answer: s3Answer('ExpiredToken') }),
  lasting('a page for an S3', 's3', { on: /./, answer: { status: 200, headers: { 'content-type': 'text/html' }, body: html } }),
  lasting('a redirect from S3', 's3', { on: /./, answer: { status: 307, headers: { location: 'http://169.254.169.254/' } } }),
  lasting('a manifest that is cut short', 's3', { on: /^GET .*manifests/, shortAfter: 40 }),
  passing('registry 503', 'registry', { on: /./, times: 3, answer: { status: 503, body: 'upstream connect error' } }),
  passing('registry reset', 'registry', { on: /./, times: 3, cutAfter: -1 }),
  passing('a registration whose answer is lost', 'registry', { on: /^(POST|PATCH)/, times: 1, loseAnswer: true }),
  lasting('registry silent for good', 'registry', { on: /./, stallAfter: -1 }),
  lasting('a page for a registry', 'registry', { on: /./, answer: { status: 200, headers: { 'content-type': 'text/html' }, body: html } }),
  lasting('a registry of another kind', 'registry', {
    on: /./,
    answer: { status: 200, headers: { 'content-type': 'application/json' }, body: '{"items":7}' },
  }),
  passing('listing that trickles once', 'hub', { on: listing, trickleMs: 50 }),
  lasting('listing that trickles for good', 'hub', { on: listing, trickleMs: 50 }),
  lasting('heads that trickle', 'hub', { on: /./, trickleHeadMs: 50 }),
  passing('weights that trickle', 'cdn', { on: weights, times: 2, trickleMs: 50 }),
  passing('heads before weights that trickle', 'cdn', { on: weights, times: 2, trickleHeadMs: 50 }),
  lasting('S3 whose heads trickle', 's3', { on: /./, trickleHeadMs: 50 }),
  lasting('S3 whose bodies trickle', 's3', { on: /^GET/, trickleMs: 50 }),
  lasting('S3 that sips', 's3', { on: /^PUT .*partNumber/, sipMs: 20 }),
  lasting('registry whose heads trickle', 'registry', { on: /./, trickleHeadMs: 50 }),
  lasting('S3 answers nothing, by 200', 's3', { on: /./, answer: { status: 200 } }),
  inWorld('Hub whose name is none', 'dns', false, withoutName('HF_ENDPOINT')),
  inWorld('S3 whose name is none', 'dns', false, withoutName('S3_ENDPOINT')),
  inWorld('registry whose name is none', 'dns', false, withoutName('MODEL_REGISTRY_URL')),
  inWorld(
    'names that fail twice',
    'dns',
    true,
    named((own) => ({ 'hub.test': ['fail', own], 'cdn.test': ['fail', 'fail', own] })),
  ),
  inWorld(
    'CDN whose name means the metadata service',
    'dns',
    false,
    named((own) => ({ 'hub.test': [own], 'cdn.test': [['169.254.169.254']] })),
  ),
  inWorld(
    'CDN whose name changes to the metadata service',
    'dns',
    false,
    named((own) => ({ 'hub.test': [own], 'cdn.test': [own, ['169.254.169.254']] })),
  ),
  inWorld('Hub that takes no connection', 'all', false, deaf('HF_ENDPOINT')),
  inWorld('S3 that takes no connection', 'all', false, deaf('S3_ENDPOINT')),
  inWorld('TLS broken in the handshake, twice', 'tls', true, meddledTls({ times: 2, spoilAfter: 100 })),
  inWorld('TLS broken in the handshake, for good', 'tls', false, meddledTls({ spoilAfter: 100 })),
  inWorld('TLS silent in the handshake', 'tls', false, meddledTls({ mute: true })),
  inWorld('TLS broken in the middle of what comes', 'tls', true, meddledTls({ times: 2, spoilAfter: 300_000 })),
  inWorld('TLS broken in the middle of what is sent', 'tls', true, meddledTls({ times: 2, spoilSentAfter: 300_000 })),
  inWorld('S3 an hour ahead of our clock', 's3', true, { options: { s3: { clockAheadMs: hour, maxClockSkewMs: 900_000 } } }),
  inWorld('listings that come late', 's3', true, { options: { s3: { listsLateMs: secondsLate } } }),
];
