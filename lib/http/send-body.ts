import type { ClientRequest } from 'node:http';
import { agents } from '../network.ts';
import { pieceBytes } from '../transfer/rate.ts';

/**
 * Sends a body and ends the request, at the pace of all that goes out; `stop` is called when a piece is not taken within the stall timeout (ms). With
 * a pause (ms) between the pieces, the rest is kept back once an answer has come. Never throws: what fails is the request's own error.
 */
export async function writeBody(
  request: ClientRequest,
  bytes: Uint8Array,
  { stallTimeout, stop, leastPauseMs }: { stallTimeout: number; stop: (how: string) => void; leastPauseMs: number },
): Promise<void> {
  const { out } = agents().pace;
  let unwanted = false;
  if (leastPauseMs > 0) {
    request.once('response', () => {
      unwanted = true;
    });
  }
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    const piece = bytes.subarray(at, at + pieceBytes);
    const pauseMs = Math.min(Math.max(out.count(piece.length), at === 0 ? 0 : leastPauseMs), stallTimeout / 2);
    if (pauseMs >= 1) await new Promise((resolve) => setTimeout(resolve, pauseMs));
    if (request.destroyed || unwanted) return;
    const timer = setTimeout(() => stop('hardly moving'), stallTimeout);
    await new Promise<void>((resolve) => {
      const taken = () => {
        request.off('close', taken);
        resolve();
      };
      request.once('close', taken);
      if (at + piece.length < bytes.length) request.write(piece, taken);
      else request.end(piece, taken);
    });
    clearTimeout(timer);
  }
}
