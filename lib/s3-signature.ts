import { createHmac, hash } from 'node:crypto';
import { credentialsOf, type S3Settings } from './s3-settings.ts';

export interface Unsigned {
  method: string;
  url: URL;
  headers: Record<string, string>;
}

const algorithm = 'AWS4-HMAC-SHA256';

/**
 * The headers of a request to S3 with its signature among them (AWS documentation, "Create a signed AWS API request"; S3 takes the path as it is
 * sent, without a second encoding). Header names are lower case; a body is signed for only where its sha256 is among them. Our own, because AWS's signer
 * takes 65 us a request where this takes 15, which is a twentieth of what a small file costs.
 */
export async function signed(
  { method, url, headers }: Unsigned,
  { settings, region, signingDate }: { settings: S3Settings; region: string; signingDate: Date },
): Promise<Record<string, string>> {
  const { accessKeyId, secretAccessKey, sessionToken } = await credentialsOf(settings);
  const timestamp = signingDate.toISOString().replace(/[-:]|\.\d+/g, '');
  const date = timestamp.slice(0, 8);
  const scope = `${date}/${region}/s3/aws4_request`;
  const all: Record<string, string> = {
    host: url.host,
    ...headers,
    'x-amz-content-sha256': headers['x-amz-content-sha256'] ?? hash('sha256', ''),
    'x-amz-date': timestamp,
    ...(sessionToken === undefined ? {} : { 'x-amz-security-token': sessionToken }),
  };
  // Proxies may change the agent on the way.
  const names = Object.keys(all).filter((name) => name !== 'user-agent');
  names.sort();
  const lines = names.map((name) => `${name}:${all[name]?.trim().replace(/\s+/g, ' ')}\n`).join('');
  const signedHeaders = names.join(';');
  const request = [method, url.pathname, canonicalQuery(url), lines, signedHeaders, all['x-amz-content-sha256']].join('\n');
  const toSign = [algorithm, timestamp, scope, hash('sha256', request)].join('\n');
  const signature = createHmac('sha256', signingKey(secretAccessKey, date, region))
    .update(toSign)
    .digest('hex');
  return {
    ...all,
    authorization: `${algorithm} Credential=${accessKeyId}/${scope}, SignedHeaders=${signedHeaders}, Signature=${signature}`,
  };
}

function canonicalQuery({ search, searchParams }: URL): string {
  if (search === '') return '';
  const pairs = [...searchParams].map((pair) => pair.map(encodeSigned) as [string, string]);
  pairs.sort(([a, x], [b, y]) => (a === b ? compare(x, y) : compare(a, b)));
  return pairs.map((pair) => pair.join('=')).join('&');
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

/** RFC 3986: everything but unreserved signs, as S3's signature wants it. */
export function encodeSigned(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`);
}

/** The last one: it is the same for all requests of a day by the same credentials. */
let last: { of: string; key: Buffer } | undefined;

function signingKey(secret: string, date: string, region: string): Buffer {
  const of = `${date}/${region}/${secret}`;
  if (last?.of !== of) {
    const steps = [date, region, 's3', 'aws4_request'];
    const key = steps.reduce<string | Buffer>((from, step) => createHmac('sha256', from).update(step).digest(), `AWS4${secret}`);
    last = { of, key: key as Buffer };
  }
  return last.key;
}
