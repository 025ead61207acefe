import { exitCodes, StepError } from '../../lib/errors.ts';

export type ErrorKind = 'bug' | 'usage' | 'not-found' | 'denied' | 'transient' | 'integrity' | 'refused' | 'terminated';

/** What every function fails with. */
export interface ModelferryError extends Error {
  /** `transient`: the same call may succeed later. */
  readonly kind: ErrorKind;
  /** What can be done about it. */
  readonly hint: string | undefined;
}

/** Whether a thrown value is one of ours. */
export function isModelferryError(error: unknown): error is ModelferryError {
  return error instanceof StepError && error.kind in exitCodes;
}
