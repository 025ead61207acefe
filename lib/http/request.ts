import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { StepError } from '../errors.ts';
import { agents, type Lane } from '../network.ts';
import type { Turn } from '../transfer/governor.ts';
import { stalled } from '../transfer/stalled.ts';
import { wasStale, wasUnheard } from './again.ts';
import type { HttpAnswer } from './answer.ts';
import { networkError, refusedByProxy } from './errors.ts';
import { writeBody } from './send-body.ts';
import { watchHead, watchTrickle } from './watch.ts';

export interface RequestOptions {
  method?: string;
  headers?: Record<string, string>;
  body?: Uint8Array | string | undefined;
  signal?: AbortSignal | undefined;
  /** A connection that is silent for so long (ms) is given up. */
  stallTimeout: number;
  /** The server is known to end connections whose bodies it does not want: an answer is waited for behind each piece (wasUnheard). */
  careful?: boolean | undefined;
  /** Which connections it may take; default: those of all requests. */
  lane?: Lane | undefined;
}

/** With care, an answer is waited for so long (ms) behind each piece of a body; with more care where that was not enough. */
const carefulMs = [0, 10, 100];

/**
 * One request over the shared agents (keep-alive, proxies, roots), no redirect followed. The body is the caller's to read or destroy.
 * Throws `transient` for what fails below HTTP (DNS, connect, reset, stall) and `usage` for certificates and addresses that no retry mends.
 * On node:http rather than fetch, because its body comes as plain buffers, without a web stream around each.
 */
export async function send(
  url: string,
  { method = 'GET', headers = {}, body, signal, stallTimeout, careful = false, lane }: RequestOptions,
): Promise<HttpAnswer> {
  const target = parseUrl(url);
  const secure = target.protocol === 'https:';
  const start = secure ? httpsRequest : httpRequest;
  const { pace } = agents();
  const { http, https } = lane ?? agents();
  const bytes = typeof body === 'string' ? Buffer.from(body) : body;
  const turn = await pace.enter(target.origin, signal);
  return await new Promise<HttpAnswer>((resolve, reject) => {
    const length = bytes === undefined ? {} : { 'content-length': String(bytes.length) };
    const ask = (care: number) => {
      const agent = secure ? https : http;
      // The timeout is the socket's from its first moment: request.setTimeout alone begins once it is connected.
      const options = { method, headers: { ...length, ...headers }, agent, signal, timeout: stallTimeout };
      const request = begin(() => start(target, options), turn);
      let answered: IncomingMessage | undefined;
      let again: number | undefined;
      // Once there is a body, it is what the reader hears the cause from.
      const stop = (how: string) => (answered ?? request).destroy(stalled(target, how, stallTimeout));
      request.on('timeout', () => stop('silent'));
      request.on('error', (error) => {
        if (answered === undefined && !signal?.aborted) {
          if (wasStale(request, error)) again = care;
          else if (care + 1 < carefulMs.length && wasUnheard(request, error)) again = care + 1;
        }
        if (again === undefined) reject(networkError(target, error, signal));
      });
      request.on('close', () => (again === undefined ? turn.leave() : ask(again)));
      request.on('finish', () => {
        if (answered === undefined) watchHead(request, stallTimeout, stop);
      });
      request.on('response', (answer) => {
        // No server that is asked answers so: a proxy does (RFC 9110, 15.5.8), and what it says is nothing that was asked for.
        if (answer.statusCode === 407) return void request.destroy(refusedByProxy(target, 407));
        answered = answer;
        turn.answered(answer.statusCode ?? 0, answer.headers);
        if (method === 'GET') watchTrickle(answer, stallTimeout, stop);
        // What was not waited for is not sent any more.
        if (care > 0 && !request.writableEnded) answer.once('end', () => request.destroy());
        const { remoteAddress } = answer.socket;
        resolve({ status: answer.statusCode ?? 0, headers: answer.headers, url, remoteAddress, body: answer, leave: turn.leave });
      });
      if (bytes === undefined || bytes.length === 0) request.end();
      else void writeBody(request, bytes, { stallTimeout, stop, leastPauseMs: carefulMs[care] ?? 0 });
    };
    ask(careful ? 1 : 0);
  });
}

/** A request that cannot even be made (a header that is none) has no end that would give its place away. */
function begin(make: () => ClientRequest, turn: Turn): ClientRequest {
  try {
    return make();
  } catch (error) {
    turn.leave();
    throw error;
  }
}

function parseUrl(url: string): URL {
  const target = URL.canParse(url) ? new URL(url) : undefined;
  if (target && /^https?:$/.test(target.protocol)) return target;
  throw new StepError('usage', `failed to use address ${url}: it is no http or https address`, { hint: 'it looks like https://host' });
}
