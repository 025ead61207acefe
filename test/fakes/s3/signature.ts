import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { S3Error } from './errors.ts';
import type { Target } from './target.ts';

/** What the signatures of a signed body's chunks hang on. */
export interface SigningContext {
  key: Buffer;
  /** The request's own signature: the first chunk's predecessor. */
  signature: string;
  timestamp: string;
  scope: string;
}

export interface SignatureRules {
  credentials: Record<string, string>;
  anonymous: boolean;
  region?: string | undefined;
  maxClockSkewMs?: number | undefined;
  clockAheadMs?: number | undefined;
}

interface Claim {
  accessKeyId: string;
  scope: string[];
  signedHeaders: string[];
  signature: string;
  timestamp: string;
  payloadHash: string;
  presigned: boolean;
}

const algorithm = 'AWS4-HMAC-SHA256';

/**
 * Verifies a request's Signature Version 4, in its Authorization header or presigned in its query; throws what AWS answers to a wrong one.
 * Gives undefined for an unsigned request where those are let in.
 */
export function verifySignature(request: IncomingMessage, target: Target, rules: SignatureRules): SigningContext | undefined {
  const claim = readClaim(request, target);
  if (!claim) {
    if (rules.anonymous) return undefined;
    throw new S3Error('AccessDenied');
  }
  const [date = '', region = '', service = '', end = ''] = claim.scope;
  const secret = rules.credentials[claim.accessKeyId];
  if (secret === undefined) throw new S3Error('InvalidAccessKeyId', { AWSAccessKeyId: claim.accessKeyId });
  if (rules.region !== undefined && region !== rules.region) {
    throw new S3Error('AuthorizationHeaderMalformed', {
      message: `The authorization header is malformed; the region '${region}' is wrong; expecting '${rules.region}'`,
      Region: rules.region,
    });
  }
  checkTime(claim, target, rules);
  checkSignedHeaders(request, claim);
  const canonical = canonicalRequest(request, target, claim);
  const scope = claim.scope.join('/');
  const toSign = [algorithm, claim.timestamp, scope, sha256(canonical)].join('\n');
  const key = signingKey(secret, date, region, service);
  const expected = createHmac('sha256', key).update(toSign).digest('hex');
  if (service !== 's3' || end !== 'aws4_request' || !claim.timestamp.startsWith(date) || !equal(expected, claim.signature)) {
    throw new S3Error('SignatureDoesNotMatch', {
      AWSAccessKeyId: claim.accessKeyId,
      StringToSign: toSign,
      SignatureProvided: claim.signature,
      CanonicalRequest: canonical,
    });
  }
  return { key, signature: claim.signature, timestamp: claim.timestamp, scope };
}

/** The signature of a chunk or of the trailers: over the signature before it and the hashes of its own bytes. */
export function chunkSignature(context: SigningContext, kind: 'PAYLOAD' | 'TRAILER', previous: string, hashes: string[]): string {
  const toSign = [`${algorithm}-${kind}`, context.timestamp, context.scope, previous, ...hashes].join('\n');
  return createHmac('sha256', context.key).update(toSign).digest('hex');
}

/** In hex. */
export function sha256(data: string | Uint8Array): string {
  return createHash('sha256').update(data).digest('hex');
}

function readClaim(request: IncomingMessage, { query }: Target): Claim | undefined {
  const header = request.headers.authorization;
  if (header !== undefined) {
    const fields = /^AWS4-HMAC-SHA256\s+Credential=([^,\s]+),\s*SignedHeaders=([^,\s]+),\s*Signature=([\da-f]+)$/.exec(header);
    if (!fields && header.startsWith(algorithm)) throw new S3Error('AuthorizationHeaderMalformed');
    if (!fields) {
      throw new S3Error('InvalidRequest', {
        message: `The authorization mechanism you have provided is not supported. Please use ${algorithm}.`,
      });
    }
    const payloadHash = request.headers['x-amz-content-sha256'];
    if (typeof payloadHash !== 'string') {
      throw new S3Error('InvalidRequest', { message: 'Missing required header for this request: x-amz-content-sha256' });
    }
    const timestamp = request.headers['x-amz-date'];
    if (typeof timestamp !== 'string') {
      throw new S3Error('AccessDenied', { message: 'AWS authentication requires a valid Date or x-amz-date header' });
    }
    return {
      ...credentialOf(fields[1]),
      signedHeaders: split(fields[2]),
      signature: fields[3] ?? '',
      timestamp,
      payloadHash,
      presigned: false,
    };
  }
  if (!query.has('X-Amz-Signature') && !query.has('X-Amz-Credential')) return undefined;
  const named = ['X-Amz-Algorithm', 'X-Amz-Credential', 'X-Amz-Date', 'X-Amz-Expires', 'X-Amz-SignedHeaders', 'X-Amz-Signature'];
  if (named.some((name) => !query.has(name)) || query.get('X-Amz-Algorithm') !== algorithm) {
    throw new S3Error('AuthorizationQueryParametersError');
  }
  const payloadHash = request.headers['x-amz-content-sha256'] ?? query.get('X-Amz-Content-Sha256') ?? 'UNSIGNED-PAYLOAD';
  return {
    ...credentialOf(query.get('X-Amz-Credential')),
    signedHeaders: split(query.get('X-Amz-SignedHeaders')),
    signature: query.get('X-Amz-Signature') ?? '',
    timestamp: query.get('X-Amz-Date') ?? '',
    payloadHash: String(payloadHash),
    presigned: true,
  };
}

function credentialOf(credential = ''): Pick<Claim, 'accessKeyId' | 'scope'> {
  const parts = credential.split('/');
  if (parts.length < 5) {
    throw new S3Error('AuthorizationHeaderMalformed', {
      message:
        'The authorization header is malformed; the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".',
    });
  }
  return { accessKeyId: parts.slice(0, -4).join('/'), scope: parts.slice(-4) };
}

function split(names = ''): string[] {
  return names.split(';');
}

function checkTime(claim: Claim, { query }: Target, { maxClockSkewMs: maxSkew, clockAheadMs = 0 }: SignatureRules): void {
  const stamp = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(claim.timestamp);
  if (!stamp) throw new S3Error('AccessDenied', { message: 'AWS authentication requires a valid Date or x-amz-date header' });
  const [year, month, day, hour, minute, second] = stamp.slice(1).map(Number) as [number, number, number, number, number, number];
  const signed = Date.UTC(year, month - 1, day, hour, minute, second);
  const now = Date.now() + clockAheadMs;
  if (claim.presigned) {
    const expires = Number(query.get('X-Amz-Expires'));
    if (!(expires >= 1 && expires <= 604_800)) {
      throw new S3Error('AuthorizationQueryParametersError', { message: 'X-Amz-Expires must be less than a week (in seconds)' });
    }
    if (now > signed + expires * 1000)
      throw new S3Error('AccessDenied', { message: 'Request has expired', ServerTime: new Date(now).toISOString() });
  } else if (maxSkew !== undefined && Math.abs(now - signed) > maxSkew) {
    throw new S3Error('RequestTimeTooSkewed', {
      RequestTime: claim.timestamp,
      ServerTime: new Date(now).toISOString(),
      MaxAllowedSkewMilliseconds: maxSkew,
    });
  }
}

function checkSignedHeaders(request: IncomingMessage, { signedHeaders }: Claim): void {
  const unsigned = Object.keys(request.headers).filter(
    (name) => (name === 'host' || name.startsWith('x-amz-')) && !signedHeaders.includes(name),
  );
  if (unsigned.length > 0) {
    throw new S3Error('AccessDenied', {
      message: 'There were headers present in the request which were not signed',
      HeadersNotSigned: unsigned.join(', '),
    });
  }
}

function canonicalRequest(request: IncomingMessage, target: Target, claim: Claim): string {
  const path = target.rawPath.split('/').map((part) => strictEncode(decodeURIComponent(part)));
  const query = [...target.query]
    .filter(([name]) => name !== 'X-Amz-Signature')
    .map(([name, value]): [string, string] => [strictEncode(name), strictEncode(value)])
    .sort(([a, x], [b, y]) => (a === b ? (x < y ? -1 : 1) : a < b ? -1 : 1))
    .map(([name, value]) => `${name}=${value}`);
  const headers = claim.signedHeaders.map(
    (name) => `${name}:${[request.headers[name] ?? ''].flat().join(',').trim().replace(/\s+/g, ' ')}\n`,
  );
  return [request.method, path.join('/'), query.join('&'), headers.join(''), claim.signedHeaders.join(';'), claim.payloadHash].join('\n');
}

/** Everything but A-Z a-z 0-9 - . _ ~ as %XX. */
function strictEncode(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`);
}

const keys = new Map<string, Buffer>();

function signingKey(secret: string, date: string, region: string, service: string): Buffer {
  const name = JSON.stringify([secret, date, region, service]);
  let key = keys.get(name);
  if (!key) {
    key = Buffer.from(`AWS4${secret}`);
    for (const part of [date, region, service, 'aws4_request']) key = createHmac('sha256', key).update(part).digest();
    keys.set(name, key);
  }
  return key;
}

function equal(a: string, b: string): boolean {
  return a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));
}
