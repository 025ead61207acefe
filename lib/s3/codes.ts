import type { ErrorKind } from '../errors.ts';

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
  InvalidToken: 'denied',
  InvalidSecurity: 'denied',
  AccountProblem: 'denied',
  NotSignedUp: 'denied',
  AllAccessDisabled: 'denied',
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
  NotImplemented: 'usage',
  MethodNotAllowed: 'usage',
  KMS: 'denied',
};

const hints: Record<string, string> = {
  NoSuchBucket: 'create the bucket first, or check --s3-bucket and --s3-endpoint-url',
  InvalidAccessKeyId: 'check the access key and that it belongs to this endpoint',
  SignatureDoesNotMatch: 'check the secret key; behind a proxy also that it leaves the Host header alone',
  ExpiredToken: 'the session has ended: give fresh credentials, or a role to the pod that renews them by itself',
  RequestTimeTooSkewed: "set this machine's clock",
  CredentialsProviderError: 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, give --s3-credentials-dir, or a role to the pod',
  PermanentRedirect: 'give the region of the bucket with --s3-region, or try --s3-path-style true',
  AuthorizationHeaderMalformed: 'give the region of the bucket with --s3-region',
  AccessDenied: 'the policy must allow s3:GetObject, PutObject, DeleteObject, ListBucket and AbortMultipartUpload there',
};

/** The kind behind an answer of S3, by its code and status; undefined when it has neither. Apart from the SDK, for who does without. */
export function s3Kind(code: string, status: number | undefined): ErrorKind | undefined {
  return kinds[code] ?? byStatus(status);
}

/** What the user can do about it. */
export function s3Hint(code: string, kind: ErrorKind): string | undefined {
  return hints[code] ?? (kind === 'denied' ? hints.AccessDenied : undefined);
}

function byStatus(status: number | undefined): ErrorKind | undefined {
  if (status === undefined) return undefined;
  if (status === 401 || status === 403) return 'denied';
  if (status === 404) return 'not-found';
  // No retry makes a store learn a verb.
  if (status === 501) return 'usage';
  if (status === 408 || status === 409 || status === 429 || status >= 500) return 'transient';
  if (status >= 300 && status < 400) return 'usage';
  // A 200 whose body could not be read as an answer: cut, or an error page in between.
  return status < 300 ? 'transient' : 'usage';
}
