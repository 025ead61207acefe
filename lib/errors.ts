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
  const systemKind = error instanceof Error && 'code' in error ? systemErrorKinds[String(error.code)] : undefined;
  return systemKind ?? 'bug';
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

/** Replaces control characters (and so line breaks) by spaces. */
export function oneLine(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, ' ').trim();
}

/** An aggregate (Node's happy-eyeballs connect) has an empty message: its parts say it. */
function describe(error: Error): string {
  if (error instanceof AggregateError && error.message === '') return error.errors.map(describe).join(', ');
  return error.message || error.name;
}

/** System errors by code (errno(3), Node's dns, net and tls), as far as a user can act on them. */
const systemErrorKinds: Record<string, ErrorKind> = {
  ENOSPC: 'refused',
  EDQUOT: 'refused',
  EFBIG: 'refused',
  EACCES: 'denied',
  EPERM: 'denied',
  EROFS: 'denied',
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
