import type { ClientRequest, IncomingMessage } from 'node:http';
import { floorRate } from '../transfer/rate.ts';

/** Ends a request whose answer's head is not whole a stall timeout after its first byte: each byte of it ends the silence, and there is no other watch. */
export function watchHead(request: ClientRequest, stallTimeout: number, stop: (how: string) => void): void {
  const { socket } = request;
  if (socket === null) return;
  let before = socket.bytesRead;
  let began: number | undefined;
  const timer = setInterval(() => {
    if (socket.bytesRead === before) return;
    began ??= performance.now();
    if (performance.now() - began >= stallTimeout) stop('only trickling');
  }, stallTimeout / 4);
  // 1xx: whole heads, behind which the server may think again.
  request.on('information', () => {
    before = socket.bytesRead;
    began = undefined;
  });
  const end = () => clearInterval(timer);
  request.once('response', end);
  request.once('close', end);
}

/** Ends a body that brings less than the floor over a whole stall timeout, unless it is its reader who does not take more. */
export function watchTrickle(body: IncomingMessage, stallTimeout: number, stop: (how: string) => void): void {
  const { socket } = body;
  let before = socket.bytesRead;
  const timer = setInterval(() => {
    const few = socket.bytesRead - before < (floorRate * stallTimeout) / 1000;
    before = socket.bytesRead;
    if (few && !body.complete && body.readableLength < body.readableHighWaterMark) stop('only trickling');
  }, stallTimeout);
  body.once('close', () => clearInterval(timer));
}
