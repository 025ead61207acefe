import type { HeadText } from './head-text.ts';
import type { Head } from './message.ts';

/** How an answer ended. */
export interface Ended {
  /** Undefined when the answer has another form than its reader takes. */
  head: Head | undefined;
  /** The connection stands at the end of the answer, and stays open. */
  reusable: boolean;
}

/** Takes one answer off a connection. What it throws ends the connection. */
export interface Reader {
  /** Where the next bytes go; never empty. */
  room(): Buffer;
  /** So many bytes have come there; undefined while the answer is not at its end. */
  took(bytes: number): Ended | undefined;
  /** The server sends no more; undefined when that cuts the answer. */
  closed(): Ended | undefined;
}

/** A reader for one answer, whose head comes into `heads`. */
export type MakeReader = (heads: HeadText) => Reader;

/** An answer that contradicts itself: it says why. */
export class BadAnswer extends Error {}
