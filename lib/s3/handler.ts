import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import type { S3ClientConfig } from '@aws-sdk/client-s3';
import { buildQueryString, type HttpRequest, HttpResponse } from '@smithy/core/protocols';
import { StepError } from '../errors.ts';
import type { HttpAnswer } from '../http/answer.ts';
import { send } from '../http/request.ts';

type Handler = NonNullable<S3ClientConfig['requestHandler']>;

/** What the SDK asks of a handler (its HttpHandlerOptions). */
interface Sent {
  abortSignal?: AbortSignal;
  /** The request is made already, and this came: the SDK shall only read it. */
  answer?: HttpAnswer;
}

/**
 * Carries the SDK's requests over `send`, so that S3 is asked like the Hub: one pace for all connections, the bandwidth limit, the stall watchdog.
 * Bodies are whole buffers, as this house makes them; the small streams of a probe for trailers are read first. Tells where each goes. Throws what `send` throws.
 */
export function overSend(stallTimeout: number, onOrigin: (origin: string) => void): Handler {
  const handler = {
    metadata: { handlerProtocol: 'http/1.1' },
    async handle(request: HttpRequest, { abortSignal, answer: given }: Sent = {}): Promise<{ response: HttpResponse }> {
      const { protocol, hostname, port, path, query, method } = request;
      const { 'transfer-encoding': _, ...headers } = request.headers;
      const body = await wholeBody(request);
      const search = query ? buildQueryString(query) : '';
      const origin = `${protocol}//${hostname}${port === undefined ? '' : `:${port}`}`;
      onOrigin(origin);
      const url = `${origin}${path}${search === '' ? '' : `?${search}`}`;
      const answer = given ?? (await send(url, { method, headers, body, signal: abortSignal, stallTimeout }));
      const flat = Object.entries(answer.headers).map(([name, value]) => [name, [value ?? ''].flat().join(',')]);
      return { response: new HttpResponse({ statusCode: answer.status, headers: Object.fromEntries(flat), body: answer.body }) };
    },
  };
  return handler as Handler;
}

async function wholeBody({ body, method, path }: HttpRequest): Promise<Uint8Array | string | undefined> {
  const given: unknown = body;
  if (given === undefined || typeof given === 'string' || given instanceof Uint8Array) return given;
  if (given instanceof Readable) return await buffer(given);
  throw new StepError('bug', `failed to send ${method} ${path}: its body is neither buffer nor stream`);
}
