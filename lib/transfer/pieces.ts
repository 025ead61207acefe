import type { Rate } from './rate.ts';

/** A body goes out in pieces of so many bytes: each must be taken within the stall timeout, and the rate is kept to between them. */
const pieceBytes = 256 * 1024;

export interface PiecesOptions {
  rate: Rate;
  /** ms that each piece may take; `stop` is called when one takes longer. */
  stallTimeout: number;
  stop: (how: string) => void;
  /** ms to wait between two pieces at least. */
  leastPauseMs?: number;
  /** Looked at before each piece: false ends it. */
  goesOn: () => boolean;
  /** Settles when the piece is taken, or never will be. */
  write: (piece: Uint8Array, at: { first: boolean; last: boolean }) => Promise<void>;
}

/** Hands a body on piece by piece, at a rate; one of no bytes is one piece. True when all of it was handed on. */
export async function sendInPieces(
  body: Uint8Array,
  { rate, stallTimeout, stop, leastPauseMs = 0, goesOn, write }: PiecesOptions,
): Promise<boolean> {
  for (let at = 0; at === 0 || at < body.length; at += pieceBytes) {
    const piece = body.subarray(at, at + pieceBytes);
    const paceMs = piece.length === 0 ? 0 : rate.count(piece.length);
    const pauseMs = Math.min(Math.max(paceMs, at === 0 ? 0 : leastPauseMs), stallTimeout / 2);
    if (pauseMs >= 1) await new Promise((resolve) => setTimeout(resolve, pauseMs));
    if (!goesOn()) return false;
    const timer = setTimeout(() => stop('hardly moving'), stallTimeout);
    await write(piece, { first: at === 0, last: at + piece.length === body.length });
    clearTimeout(timer);
  }
  return goesOn();
}
