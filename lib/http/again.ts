import type { ClientRequest } from 'node:http';
import { isCut } from '../errors.ts';

/**
 * True for a write that was cut while its body went out: a server that refuses one may answer and close before it has read all, and what it said is
 * lost with the connection (RFC 9112, 9.6; versitygw does so). It is asked once more, with care.
 */
export function wasUnheard(request: ClientRequest, error: Error): boolean {
  const sending = request.method === 'PUT' && !request.writableFinished;
  return sending && !isConditional(request) && isCut(error);
}

/**
 * True for a connection that its server closed in the very moment it was used again: that was no try (RFC 9112, 9.3.1), where asking twice is like
 * asking once (RFC 9110, 9.2.2). It is not for a POST or a PATCH, nor for a write under a condition that its first try may have changed. Each such end
 * takes one out of those that wait, so that a new one is next at last.
 */
export function wasStale(request: ClientRequest, error: Error): boolean {
  const { method, reusedSocket } = request;
  const read = method === 'GET' || method === 'HEAD';
  const write = method === 'PUT' || method === 'DELETE';
  return reusedSocket && (read || (write && !isConditional(request))) && isCut(error);
}

function isConditional(request: ClientRequest): boolean {
  return request.hasHeader('if-match') || request.hasHeader('if-none-match');
}
