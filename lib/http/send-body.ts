import type { ClientRequest } from 'node:http';
import { agents } from '../network.ts';
import { sendInPieces } from '../transfer/pieces.ts';

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
  await sendInPieces(bytes, {
    rate: out,
    stallTimeout,
    stop,
    leastPauseMs,
    goesOn: () => !request.destroyed && !unwanted,
    write: (piece, { last }) =>
      new Promise<void>((resolve) => {
        const taken = () => {
          request.off('close', taken);
          resolve();
        };
        request.once('close', taken);
        if (last) request.end(piece, taken);
        else request.write(piece, taken);
      }),
  });
}
