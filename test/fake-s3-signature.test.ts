import { request as httpRequest } from 'node:http';
import { HeadBucketCommand, ListBucketsCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { FakeS3, type FakeS3Options } from './fakes/s3.ts';
import { clientOf, refusal } from './fakes/s3-client.ts';

const Bucket = 'models';
const servers: FakeS3[] = [];

async function start(options: FakeS3Options = {}): Promise<FakeS3> {
  const server = await new FakeS3(options).listen();
  servers.push(server);
  server.createBucket(Bucket);
  return server;
}

afterEach(async () => {
  vi.useRealTimers();
  for (const server of servers.splice(0)) await server.close();
});

/** Sends a request as it is, with the Host that was signed; gives the status and S3's code. */
function send(server: FakeS3, options: { method: string; path: string; headers: Record<string, string>; body?: string }): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(server.origin, options, (response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => {
        text += chunk.toString();
      });
      response.on('end', () => resolve(`${response.statusCode} ${/<Code>(\w+)/.exec(text)?.[1] ?? text}`.trim()));
    });
    request.on('error', reject);
    request.end(options.body);
  });
}

describe('who asks', () => {
  test('is known by key and secret, with or without a session token', async () => {
    const server = await start({ credentials: { one: 'secret1', two: 'secret2' } });
    const as = (accessKeyId: string, secretAccessKey: string, sessionToken?: string) =>
      clientOf(server, { credentials: { accessKeyId, secretAccessKey, ...(sessionToken && { sessionToken }) } }).send(
        new ListBucketsCommand({}),
      );
    await as('one', 'secret1');
    await as('two', 'secret2', 'token');
    expect(await refusal(as('one', 'secret2'))).toBe('403 SignatureDoesNotMatch');
    expect(await refusal(as('three', 'secret1'))).toBe('403 InvalidAccessKeyId');
  });

  test('nobody is let in unless told so', async () => {
    const closed = await start();
    const open = await start({ anonymous: true });
    for (const server of [closed, open]) server.put(Bucket, 'k', 'body');
    const get = { method: 'GET', path: `/${Bucket}/k`, headers: {} };
    expect(await send(closed, get)).toBe('403 AccessDenied');
    expect(await send(open, get)).toBe('200 body');
  });

  test('has to sign for the right region and at the right time', async () => {
    const server = await start({ region: 'eu-west-1', maxClockSkewMs: 60_000 });
    const list = (more: object) => clientOf(server, { region: 'eu-west-1', ...more }).send(new ListBucketsCommand({}));
    await list({});
    expect(await refusal(list({ region: 'us-east-1' }))).toBe('400 AuthorizationHeaderMalformed');
    expect(await refusal(list({ systemClockOffset: 120_000 }))).toBe('403 RequestTimeTooSkewed');
  });

  test('what was changed on the way is refused', async () => {
    const server = await start();
    const change = async (edit: (request: { headers: Record<string, string>; path: string; body?: unknown }) => void): Promise<string> => {
      const client = clientOf(server);
      client.middlewareStack.add(
        (next) => async (args) => {
          edit(args.request as { headers: Record<string, string>; path: string; body?: unknown });
          return next(args);
        },
        { step: 'finalizeRequest', priority: 'low' },
      );
      return refusal(client.send(new PutObjectCommand({ Bucket, Key: 'k', Body: 'body', Metadata: { a: '1' } })));
    };
    expect(await change(({ headers }) => (headers['x-amz-meta-a'] = '2'))).toBe('403 SignatureDoesNotMatch');
    expect(await change(({ headers }) => (headers['x-amz-meta-b'] = '2'))).toBe('403 AccessDenied');
    expect(await change((request) => (request.path = `/${Bucket}/other`))).toBe('403 SignatureDoesNotMatch');
    expect(await change((request) => (request.body = 'BODY'))).toBe('400 XAmzContentSHA256Mismatch');
    expect(server.keys(Bucket)).toEqual([]);
    expect(await refusal(clientOf(server).send(new HeadBucketCommand({ Bucket: 'none' })))).toBe('404 NotFound');
  });
});

/** The examples of AWS's own pages on signed chunks: 65 KiB of `a` in chunks of 64 KiB, signed with published keys. */
describe('signed chunks', () => {
  const credentials = { AKIAIOSFODNN7EXAMPLE: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY' };
  const chunks = ['a'.repeat(65_536), 'a'.repeat(1024), ''];
  const common = {
    host: 's3.amazonaws.com',
    'content-encoding': 'aws-chunked',
    'x-amz-date': '20130524T000000Z',
    'x-amz-decoded-content-length': '66560',
    'x-amz-storage-class': 'REDUCED_REDUNDANCY',
  };

  function frames(signatures: string[], end = '\r\n'): string {
    const framed = chunks.map(
      (chunk, i) => `${chunk.length.toString(16)};chunk-signature=${signatures[i]}\r\n${chunk}${chunk ? '\r\n' : ''}`,
    );
    return framed.join('') + end;
  }

  function authorization(signed: string, signature: string): string {
    return `AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=${signed},Signature=${signature}`;
  }

  async function put(body: string, headers: Record<string, string>): Promise<{ answer: string; server: FakeS3 }> {
    const server = await start({ credentials });
    server.createBucket('examplebucket');
    return {
      server,
      answer: await send(server, { method: 'PUT', path: '/examplebucket/chunkObject.txt', headers: { ...common, ...headers }, body }),
    };
  }

  const signatures = [
    'ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648',
    '0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497',
    'b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9',
  ];
  const plain = {
    'content-length': '66824',
    'x-amz-content-sha256': 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD',
    authorization: authorization(
      'content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class',
      '4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9',
    ),
  };

  test('are taken off and verified', async () => {
    const { answer, server } = await put(frames(signatures), plain);
    expect(answer).toBe('200');
    expect(server.object('examplebucket', 'chunkObject.txt')?.size).toBe(66_560);
    expect(await server.object('examplebucket', 'chunkObject.txt')?.text()).toBe(chunks.join(''));
  });

  test('are refused when one byte is another', async () => {
    const { answer, server } = await put(frames(signatures).replace('aaaa', 'aaab'), plain);
    expect(answer).toBe('403 SignatureDoesNotMatch');
    expect(server.keys('examplebucket')).toEqual([]);
  });

  const trailed = [
    'b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2',
    '1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7',
    '2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992',
  ];
  const trailer = (signature: string) => `x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:${signature}\r\n\r\n`;
  const withTrailer = {
    'x-amz-content-sha256': 'STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER',
    'x-amz-trailer': 'x-amz-checksum-crc32c',
    authorization: authorization(
      'content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;x-amz-trailer',
      '106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e',
    ),
  };

  test('may be followed by signed trailers', async () => {
    const right = 'd81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435';
    const { answer, server } = await put(frames(trailed, trailer(right)), withTrailer);
    expect(answer).toBe('200');
    expect(server.object('examplebucket', 'chunkObject.txt')?.checksums).toEqual({ crc32c: 'sOO8/Q==' });
    expect((await put(frames(trailed, trailer('0'.repeat(64))), withTrailer)).answer).toBe('403 SignatureDoesNotMatch');
  });

  test('a body that breaks off is refused', async () => {
    expect((await put(frames(trailed, ''), withTrailer)).answer).toBe('400 IncompleteBody');
  });
});

describe('presigned addresses', () => {
  test('of AWS own example are verified, and expire', async () => {
    const server = await start({ credentials: { AKIAIOSFODNN7EXAMPLE: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY' } });
    server.createBucket('examplebucket');
    server.put('examplebucket', 'test.txt', 'body');
    const query = (signature: string) =>
      '/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request' +
      `&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=${signature}`;
    const headers = { host: 'examplebucket.s3.amazonaws.com' };
    const right = 'aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404';
    const get = (signature: string) => send(server, { method: 'GET', path: query(signature), headers });
    vi.useFakeTimers({ toFake: ['Date'], now: Date.UTC(2013, 4, 24, 12) });
    expect(await get(right)).toBe('200 body');
    expect(await get(right.replace('a', 'b'))).toBe('403 SignatureDoesNotMatch');
    vi.setSystemTime(Date.UTC(2013, 4, 25, 0, 0, 1));
    expect(await get(right)).toBe('403 AccessDenied');
  });
});
