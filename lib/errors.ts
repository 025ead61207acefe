import { constants } from 'node:os';

/** The kinds of failure that a user can tell apart, each with its exit code (design section 5). */
export const exitCodes = {
  bug: 1,
  usage: 2,
  'not-found': 3,
  denied: 4,
  transient: 5,
  integrity: 6,
  refused: 7,
  terminated: 143,
} as const;

export type ErrorKind = keyof typeof exitCodes;

export interface StepErrorOptions {
  /** What the user can do about it: one sentence. */
  hint?: string | undefined;
  cause?: unknown;
  /** How long the server asked to wait before another try, in ms (Retry-After). */
  retryAfterMs?: number | undefined;
}

/**
 * A failure that a user should read: the message has the form `failed to <verb> <thing>: <cause>`.
 * It is classed where it happens, from a status code or an error name, never from message text.
 */
export class StepError extends Error {
  override readonly name = 'StepError';
  readonly kind: ErrorKind;
  readonly hint: string | undefined;
  readonly retryAfterMs: number | undefined;

  constructor(kind: ErrorKind, message: string, options: StepErrorOptions = {}) {
    // What a server or a file name brings into it must not end a line wherever it is shown.
    super(oneLine(message), { cause: options.cause });
    this.kind = kind;
    this.hint = options.hint;
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** The kind of any thrown value: a StepError's own, `terminated` for our abort, else `bug`. */
export function kindOf(error: unknown): ErrorKind {
  if (error instanceof StepError) return error.kind;
  return (error instanceof Error && systemErrorKinds[codeOf(error) ?? '']) || 'bug';
}

/** A system's error (`ENOSPC: ...`) in our words: `failed to <doing>: <cause>`. Anything else passes as it is. */
export function explain(doing: string, error: unknown, hint?: string): unknown {
  if (error instanceof StepError || kindOf(error) === 'bug') return error;
  return new StepError(kindOf(error), `failed to ${doing}: ${messageOf(error)}`, { hint, cause: error });
}

/** True when the same call may succeed later. */
export function isTransient(error: unknown): boolean {
  return kindOf(error) === 'transient';
}

/** The message of any thrown value, on one line and without control characters, so that no server can forge a log line. */
export function messageOf(error: unknown): string {
  const text = error instanceof Error ? describe(error) : String(error);
  return oneLine(text);
}

/**
 * What a reader would not see but a terminal or a log viewer obeys: control characters (line breaks and escapes among them), line separators, and the
 * marks that turn the direction of text, by which a name can show as another (Unicode Standard Annex 9; CVE-2021-42574).
 */
const obeyed = '\u0000-\u001f\u007f-\u009f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069';
const obeyedRuns = new RegExp(`[${obeyed}]+`, 'g');
const obeyedInLines = new RegExp(`(?![\t\n])[${obeyed}]`, 'g');

/** Replaces what is obeyed instead of shown (line breaks too) by spaces. */
export function oneLine(text: string): string {
  return text.replace(obeyedRuns, ' ').trim();
}

/** Writes what is obeyed instead of shown as `\uXXXX`, all but line breaks and tabs: JSON stays the same JSON. */
export function visible(text: string): string {
  return text.replace(obeyedInLines, (sign) => `\\u${sign.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** An aggregate (Node's happy-eyeballs connect) has an empty message: its parts say it. */
function describe(error: Error): string {
  if (error instanceof AggregateError && error.message === '') return error.errors.map(describe).join(', ');
  return error.message.replace(unnamed, () => [codeOf(error), words[codeOf(error) ?? '']].filter(Boolean).join(': ')) || error.name;
}

/** What Node says where its libuv has no name for a system's error, a full quota among them: twice the number. */
const unnamed = /^Unknown system error -\d+(: Unknown system error -\d+)?/;

/** As errno(3) has it. */
const words: Record<string, string> = { EDQUOT: 'disk quota exceeded', ESTALE: 'stale file handle' };

/** A system error's name. */
function codeOf(error: Error & { code?: unknown; errno?: unknown }): string | undefined {
  if (!unnamed.test(String(error.code))) return error.code === undefined ? undefined : String(error.code);
  return Object.entries(constants.errno).find(([, number]) => number === -Number(error.errno))?.[0];
}

/** True when the other side ended a connection. */
export function isCut(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
}

/** System errors by code (errno(3), Node's dns, net and tls), as far as a user can act on them. */
const systemErrorKinds: Record<string, ErrorKind> = {
  ENOSPC: 'refused',
  EDQUOT: 'refused',
  EFBIG: 'refused',
  EACCES: 'denied',
  EPERM: 'denied',
  EROFS: 'denied',
  // A file where a folder is meant.
  ENOTDIR: 'usage',
  EISDIR: 'usage',
  // A link where none is followed.
  ELOOP: 'refused',
  EIO: 'transient',
  // Where a file that is not there has a meaning, that is told before: here a volume or a folder went away under a run.
  ENOENT: 'transient',
  ESTALE: 'transient',
  EMFILE: 'transient',
  ECONNREFUSED: 'transient',
  ECONNRESET: 'transient',
  EPIPE: 'transient',
  ETIMEDOUT: 'transient',
  EHOSTUNREACH: 'transient',
  ENETUNREACH: 'transient',
  ENOTFOUND: 'transient',
  EAI_AGAIN: 'transient',
};
