import { BadAnswer } from './reader.ts';

/**
 * The body that chunks hold (RFC 9112, 7.1); undefined while their end, with its trailers, has not come. Throws BadAnswer for what are no chunks, and for bytes
 * behind them.
 */
export function readChunks(bytes: Buffer): Buffer | undefined {
  const pieces: Buffer[] = [];
  for (let at = 0; ; ) {
    const lineEnd = bytes.indexOf('\r\n', at);
    if (lineEnd < 0) return undefined;
    const line = bytes.toString('latin1', at, lineEnd);
    const size = /^([0-9a-f]{1,7})[ \t]*(?:;.*)?$/i.exec(line)?.[1];
    if (size === undefined) throw new BadAnswer(`${JSON.stringify(line.slice(0, 40))} is no size of a chunk`);
    const [from, to] = [lineEnd + 2, lineEnd + 2 + Number.parseInt(size, 16)];
    if (to === from) return endsWhole(bytes, from) ? Buffer.concat(pieces) : undefined;
    if (bytes.length < to + 2) return undefined;
    if (bytes.toString('latin1', to, to + 2) !== '\r\n') throw new BadAnswer(`a chunk does not end behind its ${to - from} bytes`);
    pieces.push(bytes.subarray(from, to));
    at = to + 2;
  }
}

/** Behind the last chunk come trailers, each a line, and an empty line. */
function endsWhole(bytes: Buffer, from: number): boolean {
  const rest = bytes.toString('latin1', from);
  const end = rest.startsWith('\r\n') ? 2 : rest.indexOf('\r\n\r\n') + 4;
  if (end < 4 && end !== 2) return false;
  if (end < rest.length) throw new BadAnswer('more came than its chunks');
  return true;
}
