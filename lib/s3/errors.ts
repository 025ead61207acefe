import { S3ServiceException } from '@aws-sdk/client-s3';
import { type ErrorKind, kindOf, messageOf, StepError } from '../errors.ts';
import { PreconditionFailed } from '../store.ts';
import { retryAfterMs } from '../transfer/retry.ts';
import { s3Hint, s3Kind } from './codes.ts';
import { NoS3, noS3Hint } from './foreign.ts';

/** Classes what the SDK threw, by status and code; the message names what was done to which object. Our own abort passes as it is. */
export function s3Error(error: unknown, doing: string, signal: AbortSignal | undefined): unknown {
  if (signal?.aborted) return signal.reason;
  if (error instanceof StepError || error instanceof PreconditionFailed) return error;
  if (error instanceof NoS3) {
    const kind = error.wasOne ? 'transient' : 'usage';
    return new StepError(kind, `failed to ${doing}: ${messageOf(error)}`, { hint: noS3Hint, cause: error });
  }
  const name = error instanceof Error ? error.name : '';
  const status = error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined;
  if (status === 412 || name === 'PreconditionFailed') return new PreconditionFailed(doing);
  const kind = s3Kind(name, status) ?? byCause(error);
  const retryAfter = error instanceof S3ServiceException ? error.$response?.headers['retry-after'] : undefined;
  const code = status === undefined ? name : `${name} (${status})`;
  const message = messageOf(error);
  return new StepError(kind, `failed to ${doing}: ${message === name || message === 'UnknownError' ? code : `${code}: ${message}`}`, {
    hint: s3Hint(name, kind),
    cause: error,
    retryAfterMs: retryAfterMs(retryAfter),
  });
}

/** Below HTTP, errors come from Node with a code; what has none is a connection that broke in some other way. */
function byCause(error: unknown): ErrorKind {
  const kind = kindOf(error);
  const known = error instanceof TypeError || error instanceof RangeError || error instanceof ReferenceError;
  return kind === 'bug' && !known ? 'transient' : kind;
}

/** The HTTP status behind an error of ours; undefined when there was no answer. */
export function statusOf(error: unknown): number | undefined {
  const cause = error instanceof StepError ? error.cause : error;
  return cause instanceof S3ServiceException ? cause.$metadata.httpStatusCode : undefined;
}

/** True for a HEAD that was refused: its answer has no code, and the status alone may be a bad key, an ended token, a wrong clock or another region. */
export function isUnexplained(error: unknown): boolean {
  return [301, 307, 400, 403].includes(statusOf(error) ?? 0);
}

/** True where the store refused the time of a signature and its answer told the store's own, which the SDK's client has taken over (a HEAD has no code). */
export function isOfClock(error: unknown): boolean {
  if (!(error instanceof S3ServiceException)) return false;
  return error.name === 'RequestTimeTooSkewed' || (error.$metadata as { clockSkewCorrected?: boolean }).clockSkewCorrected === true;
}
