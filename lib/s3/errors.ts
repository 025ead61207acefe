import { S3ServiceException } from '@aws-sdk/client-s3';
import { type ErrorKind, kindOf, messageOf, StepError } from '../errors.ts';
import { PreconditionFailed } from '../store.ts';
import { retryAfterMs } from '../transfer/retry.ts';

/** S3's error codes (API reference, "List of error codes") as kinds, where the status alone would mislead. */
const kinds: Record<string, ErrorKind> = {
  NoSuchBucket: 'not-found',
  NoSuchKey: 'not-found',
  NoSuchUpload: 'not-found',
  NotFound: 'not-found',
  AccessDenied: 'denied',
  Forbidden: 'denied',
  InvalidAccessKeyId: 'denied',
  SignatureDoesNotMatch: 'denied',
  ExpiredToken: 'denied',
  TokenRefreshRequired: 'denied',
  RequestTimeTooSkewed: 'denied',
  CredentialsProviderError: 'denied',
  BadDigest: 'transient',
  InvalidDigest: 'transient',
  XAmzContentSHA256Mismatch: 'transient',
  XAmzContentChecksumMismatch: 'transient',
  IncompleteBody: 'transient',
  RequestTimeout: 'transient',
  SlowDown: 'transient',
  ServiceUnavailable: 'transient',
  InternalError: 'transient',
  OperationAborted: 'transient',
  ConditionalRequestConflict: 'transient',
  TimeoutError: 'transient',
  InvalidPart: 'transient',
  PermanentRedirect: 'usage',
  AuthorizationHeaderMalformed: 'usage',
  IllegalLocationConstraintException: 'usage',
  InvalidBucketName: 'usage',
  KMS: 'denied',
};

const hints: Record<string, string> = {
  NoSuchBucket: 'create the bucket first, or check --s3-bucket and --s3-endpoint-url',
  InvalidAccessKeyId: 'check the access key and that it belongs to this endpoint',
  SignatureDoesNotMatch: 'check the secret key; behind a proxy also that it leaves the Host header alone',
  RequestTimeTooSkewed: "set this machine's clock",
  CredentialsProviderError: 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, give --s3-credentials-dir, or a role to the pod',
  PermanentRedirect: 'give the region of the bucket with --s3-region, or try --s3-path-style true',
  AuthorizationHeaderMalformed: 'give the region of the bucket with --s3-region',
  AccessDenied: 'the policy must allow s3:GetObject, PutObject, DeleteObject, ListBucket and AbortMultipartUpload there',
};

/** Classes what the SDK threw, by status and code; the message names what was done to which object. Our own abort passes as it is. */
export function s3Error(error: unknown, doing: string, signal: AbortSignal | undefined): unknown {
  if (signal?.aborted) return signal.reason;
  if (error instanceof StepError || error instanceof PreconditionFailed) return error;
  const name = error instanceof Error ? error.name : '';
  const status = error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined;
  if (status === 412 || name === 'PreconditionFailed') return new PreconditionFailed(doing);
  const kind = kinds[name] ?? byStatus(status) ?? byCause(error);
  const retryAfter = error instanceof S3ServiceException ? error.$response?.headers['retry-after'] : undefined;
  const code = status === undefined ? name : `${name} (${status})`;
  const message = messageOf(error);
  return new StepError(kind, `failed to ${doing}: ${message === name || message === 'UnknownError' ? code : `${code}: ${message}`}`, {
    hint: hints[name] ?? (kind === 'denied' ? hints.AccessDenied : undefined),
    cause: error,
    retryAfterMs: retryAfterMs(retryAfter),
  });
}

function byStatus(status: number | undefined): ErrorKind | undefined {
  if (status === undefined) return undefined;
  if (status === 401 || status === 403) return 'denied';
  if (status === 404) return 'not-found';
  if (status === 408 || status === 409 || status === 429 || status >= 500) return 'transient';
  if (status >= 300 && status < 400) return 'usage';
  // A 200 whose body could not be read as an answer: cut, or an error page in between.
  return status < 300 ? 'transient' : 'usage';
}

/** Below HTTP, errors come from Node with a code; what has none is a connection that broke in some other way. */
function byCause(error: unknown): ErrorKind {
  const kind = kindOf(error);
  const known = error instanceof TypeError || error instanceof RangeError || error instanceof ReferenceError;
  return kind === 'bug' && !known ? 'transient' : kind;
}
