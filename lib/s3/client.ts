import { Readable } from 'node:stream';
import { S3Client } from '@aws-sdk/client-s3';
import type { HttpRequest, HttpResponse } from '@smithy/core/protocols';
import { StepError } from '../errors.ts';
import { regionOf, type S3Settings } from '../s3-settings.ts';
import { version } from '../version.ts';
import { hasDocument, hasObjectHeaders, isAboutObject, isDocument, NoS3 } from './foreign.ts';
import { overSend } from './handler.ts';

export interface ClientOptions {
  settings: S3Settings;
  /** ms of silence after which a connection is given up. */
  stallTimeout: number;
  /** Told the Date of every answer: the store's clock. */
  onDate: (date: string | undefined) => void;
  /** Told where every request goes. */
  onOrigin: (origin: string) => void;
}

const silent = { debug() {}, info() {}, warn() {}, error() {} };

/** The SDK's client over our own `send` (proxies, roots, pace), with no retries of its own, and no checksum that a store might not know. */
export async function makeClient({ settings, stallTimeout, onDate, onOrigin }: ClientOptions): Promise<S3Client> {
  const client = new S3Client({
    region: await regionOf(settings),
    ...(settings.endpoint === undefined ? {} : { endpoint: settings.endpoint }),
    forcePathStyle: settings.pathStyle,
    credentials: settings.credentials,
    // One retry layer only: ours, which sees Retry-After and tells what it does.
    maxAttempts: 1,
    // Our own header or signed digest protects the bytes; the SDK's default trailers break stores that do not know them.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    // A part is one buffer: asking before sending it costs a round trip each time.
    expectContinueHeader: false,
    // What it would say, our errors say; it would go past our log.
    logger: silent,
    customUserAgent: [['modelferry', version]],
    requestHandler: overSend(stallTimeout, onOrigin),
  });
  client.middlewareStack.add(
    (next) => async (args) => {
      const result = await next(args);
      onDate((result.response as { headers?: Record<string, string> }).headers?.date);
      return result;
    },
    { step: 'deserialize', priority: 'low', name: 'storeClock' },
  );
  let wasOne = false;
  client.middlewareStack.add(
    (next, { commandName = '' }) =>
      async (args) => {
        const result = await next(args);
        const response = result.response as HttpResponse;
        if (response.statusCode >= 300) return result;
        if (hasDocument(commandName)) response.body = await wholeBody(response.body as Readable);
        const good = hasDocument(commandName)
          ? isDocument(commandName, response.body as Buffer)
          : !isAboutObject(commandName) || hasObjectHeaders(response.headers);
        if (!good) throw foreign(args.request as HttpRequest, response, wasOne);
        wasOne ||= hasDocument(commandName) || isAboutObject(commandName);
        return result;
      },
    { step: 'deserialize', priority: 'low', name: 'isAnS3' },
  );
  return client;
}

/** Documents of S3 are pages of at most 1000 entries. */
const documentLimit = 64 * 1024 ** 2;

async function wholeBody(body: Readable): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of body as AsyncIterable<Buffer>) {
    size += piece.length;
    if (size > documentLimit) throw new StepError('integrity', `failed to read an answer of S3: it is over ${documentLimit} bytes`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces, size);
}

function foreign({ protocol, hostname, port }: HttpRequest, { statusCode, headers, body }: HttpResponse, wasOne: boolean): NoS3 {
  if (body instanceof Readable) body.destroy();
  return new NoS3(`${protocol}//${hostname}${port === undefined ? '' : `:${port}`}`, { status: statusCode, headers }, wasOne);
}
