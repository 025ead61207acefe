import { createHash, createHmac, type Hash, type Hmac } from 'node:crypto';
import { SignatureV4 } from '@smithy/signature-v4';
import { describe, expect, test } from 'vitest';
import type { S3Credentials, S3Settings } from '../lib/s3-settings.ts';
import { signed, type Unsigned } from '../lib/s3-signature.ts';

const plain: S3Credentials = { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY' };
const settingsOf = (credentials: S3Credentials) => ({ credentials }) as S3Settings;
const signingDate = new Date('2026-11-26T05:06:07.089Z');

describe('a signature', () => {
  const host = 'https://models.s3.eu-central-1.amazonaws.com';
  const sha256 = 'UNSIGNED-PAYLOAD';
  const requests: [string, Unsigned][] = [
    ['of a GET', { method: 'GET', url: new URL(`${host}/a/b.json`), headers: {} }],
    ['at a port of its own', { method: 'GET', url: new URL('http://127.0.0.1:9000/models/x'), headers: {} }],
    ['of a key with signs', { method: 'GET', url: new URL(`${host}/a%20b/%C3%BC%2B%26%3D/100%25/(x)/a//b`), headers: {} }],
    [
      'of a part',
      {
        method: 'PUT',
        url: new URL(`${host}/x?uploadId=a%2Bb%2Fc%3D%3D&partNumber=12`),
        headers: { 'content-type': 'application/octet-stream', 'x-amz-content-sha256': sha256, 'x-amz-checksum-crc32': 'AAAAAA==' },
      },
    ],
    [
      'of names that begin alike, and of one name twice',
      { method: 'GET', url: new URL(`${host}/x?a-b=1&a=2&a=10&A=3&aa=&uploads`), headers: {} },
    ],
    [
      'of headers with blanks, and of an agent',
      {
        method: 'PUT',
        url: new URL(`${host}/x`),
        headers: { 'x-amz-meta-sha256': '  many   blanks\t here ', 'user-agent': 'modelferry/1', 'x-amz-tagging': 'team=a%20b&x=%C3%BC' },
      },
    ],
  ];

  test.each(requests)("%s is the one that AWS's own signer makes", async (_, request) => {
    for (const credentials of [plain, { ...plain, sessionToken: 'IQoJb3JpZ2luX2VjE+/==' }]) {
      for (const region of ['eu-central-1', 'us-east-1']) {
        const ours = await signed(request, { settings: settingsOf(credentials), region, signingDate });
        expect(ours).toEqual(await theirs(request, credentials, region, signingDate));
      }
    }
  });

  test('follows the day and the credentials', async () => {
    const [, request] = requests[0]!;
    const asked = [plain, { ...plain, secretAccessKey: 'another' }, plain].flatMap((credentials) =>
      [signingDate, new Date('2026-11-27T00:00:00Z')].map((date) => ({ credentials, date })),
    );
    for (const { credentials, date } of asked) {
      const ours = await signed(request, { settings: settingsOf(credentials), region: 'us-east-1', signingDate: date });
      expect(ours).toEqual(await theirs(request, credentials, 'us-east-1', date));
    }
  });
});

async function theirs({ method, url, headers }: Unsigned, credentials: S3Credentials, region: string, date: Date) {
  const { accessKeyId, secretAccessKey, sessionToken } = credentials;
  const identity = { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) };
  const signer = new SignatureV4({ service: 's3', region, credentials: identity, sha256: Sha256, uriEscapePath: false });
  const { protocol, hostname, host, pathname, searchParams } = url;
  const query: Record<string, string | string[]> = {};
  for (const name of searchParams.keys()) {
    const values = searchParams.getAll(name);
    query[name] = values.length === 1 ? (values[0] as string) : values;
  }
  const request = { method, protocol, hostname, path: pathname, query, headers: { host, ...headers } };
  return (await signer.sign(request, { signingDate: date })).headers;
}

/** Node's own hash in the form that their signer asks for. */
class Sha256 {
  readonly #secret: Parameters<typeof createHmac>[1] | undefined;
  #hash: Hash | Hmac;

  constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
    this.#secret = secret === undefined ? undefined : bytesOf(secret);
    this.#hash = this.#start();
  }

  update(data: string | ArrayBuffer | ArrayBufferView): void {
    this.#hash.update(bytesOf(data));
  }

  async digest(): Promise<Uint8Array> {
    return this.#hash.digest();
  }

  reset(): void {
    this.#hash = this.#start();
  }

  #start(): Hash | Hmac {
    return this.#secret === undefined ? createHash('sha256') : createHmac('sha256', this.#secret);
  }
}

function bytesOf(data: string | ArrayBuffer | ArrayBufferView): Uint8Array {
  if (typeof data === 'string') return Buffer.from(data);
  return ArrayBuffer.isView(data) ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength) : new Uint8Array(data);
}
