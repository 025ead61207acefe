import { S3Client } from '@aws-sdk/client-s3';
import { regionOf, type S3Settings } from '../s3-settings.ts';
import { version } from '../version.ts';
import { overSend } from './handler.ts';

export interface ClientOptions {
  settings: S3Settings;
  /** ms of silence after which a connection is given up. */
  stallTimeout: number;
  /** Told the Date of every answer: the store's clock. */
  onDate: (date: Date) => void;
}

const silent = { debug() {}, info() {}, warn() {}, error() {} };

/** The SDK's client over our own `send` (proxies, roots, pace), with no retries of its own, and no checksum that a store might not know. */
export async function makeClient({ settings, stallTimeout, onDate }: ClientOptions): Promise<S3Client> {
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
    requestHandler: overSend(stallTimeout),
  });
  client.middlewareStack.add(
    (next) => async (args) => {
      const result = await next(args);
      const date = Date.parse((result.response as { headers?: Record<string, string> }).headers?.date ?? '');
      if (!Number.isNaN(date)) onDate(new Date(date));
      return result;
    },
    { step: 'deserialize', priority: 'low', name: 'storeClock' },
  );
  return client;
}
