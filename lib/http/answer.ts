import type { IncomingHttpHeaders } from 'node:http';
import type { Readable } from 'node:stream';
import { StepError } from '../errors.ts';
import { agents } from '../network.ts';
import { shownUrl } from '../shown-url.ts';
import { networkError } from './errors.ts';

export interface HttpAnswer {
  status: number;
  headers: IncomingHttpHeaders;
  url: string;
  /** Of the server, or of the proxy in between. */
  remoteAddress?: string | undefined;
  body: Readable;
  /** Gives the request's place among those of its origin away, which the body's end does by itself: for bodies that stay open between reads. */
  leave: () => void;
}

/** Reads a body whole. Throws `transient` when it is cut, `integrity` when it is over `limit` bytes. */
export async function readBody(answer: Pick<HttpAnswer, 'body' | 'url'>, limit = 64 * 1024 ** 2): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of answer.body as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > limit) throw new StepError('integrity', `failed to read ${shownUrl(answer.url)}: the answer is over ${limit} bytes`);
      chunks.push(chunk);
    }
  } catch (error) {
    throw networkError(new URL(answer.url), error, undefined);
  }
  return Buffer.concat(chunks, size);
}

/**
 * Copies a body into a buffer, telling each piece's bytes: what has come before a failure stays. Throws `transient` when the body is cut
 * or silent, `integrity` when it is longer than the buffer. One that ends early is the caller's to notice.
 */
export async function readInto(
  { body, url }: HttpAnswer,
  into: Buffer,
  onBytes: (bytes: number) => void,
  signal: AbortSignal,
): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    let filled = 0;
    let over = false;
    const fail = (error: unknown) => {
      over = true;
      reject(networkError(new URL(url), error, signal));
    };
    // A handler rather than an iterator: a promise for each piece costs more than copying it.
    body.on('data', (piece: Buffer) => {
      if (over) return;
      if (filled + piece.length > into.length) {
        fail(new StepError('integrity', `failed to read ${shownUrl(url)}: over ${into.length} bytes came`));
        body.destroy();
        return;
      }
      piece.copy(into, filled);
      filled += piece.length;
      onBytes(piece.length);
      const pauseMs = agents().pace.in.count(piece.length);
      if (pauseMs >= 1) {
        body.pause();
        setTimeout(() => body.resume(), pauseMs);
      }
    });
    body.on('end', resolve);
    body.on('error', fail);
    body.on('close', () => fail(new StepError('transient', `failed to read ${shownUrl(url)}: the connection was closed`)));
  });
}

/** An answer as fetch gives it, its body read whole. Throws as readBody does. */
export async function toResponse(answer: HttpAnswer): Promise<Response> {
  const bytes = await readBody(answer);
  const pairs = Object.entries(answer.headers).flatMap(([name, value]) => [value ?? []].flat().map((one): [string, string] => [name, one]));
  const empty = [101, 204, 205, 304].includes(answer.status);
  const response = new Response(empty ? null : new Uint8Array(bytes), { status: answer.status, headers: pairs });
  Object.defineProperty(response, 'url', { value: answer.url });
  return response;
}
