import { StepError } from '../errors.ts';
import type { ByteSource } from '../publish/send.ts';

/** Bytes that are remembered, over all files. */
const maxRemembered = 64 * 1024 ** 2;

interface Piece {
  offset: number;
  bytes: Buffer;
}

/**
 * What a look into files saw of them. The whole of each file passes once more when it is sent, and only then its digest is checked: a server
 * that shows other bytes to whoever looks than to whoever loads is found out here.
 */
export class Seen {
  readonly #pieces = new Map<string, Piece[]>();
  #held = 0;

  /** Throws `refused` when more than 64 MiB would have to be remembered. */
  remember(path: string, offset: number, bytes: Buffer): void {
    this.#held += bytes.length;
    if (this.#held > maxRemembered) {
      throw new StepError('refused', `failed to look into ${path}: its pickles have over ${maxRemembered} bytes`, {
        hint: 'download and upload look into such files on the disk',
      });
    }
    const pieces = this.#pieces.get(path) ?? [];
    pieces.push({ offset, bytes });
    this.#pieces.set(path, pieces);
  }

  /** The same source, whose bytes are compared with what was seen: `integrity` where they differ. */
  compare(path: string, source: ByteSource): ByteSource {
    const pieces = this.#pieces.get(path);
    if (pieces === undefined) return source;
    return {
      close: () => source.close(),
      async read(offset, into, signal) {
        await source.read(offset, into, signal);
        for (const piece of pieces) {
          const from = Math.max(offset, piece.offset);
          const to = Math.min(offset + into.length, piece.offset + piece.bytes.length);
          if (from >= to) continue;
          const there = into.subarray(from - offset, to - offset);
          if (there.equals(piece.bytes.subarray(from - piece.offset, to - piece.offset))) continue;
          throw new StepError('integrity', `failed to verify ${path}: other bytes came than were looked into before`, {
            hint: 'the server does not give everybody the same bytes: try another --hub-url',
          });
        }
      },
    };
  }
}
