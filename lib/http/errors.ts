import { kindOf, messageOf, StepError } from '../errors.ts';
import { shownUrl } from '../shown-url.ts';

/** Classes what failed below HTTP; a StepError passes as it is, and so does our own abort. */
export function networkError(target: URL, error: unknown, signal: AbortSignal | undefined): unknown {
  if (error instanceof StepError) return error;
  if (signal?.aborted) return signal.reason;
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const message = `failed to reach ${shownUrl(target)}: ${messageOf(error)}`;
  if (certificateCodes.test(code)) {
    return new StepError('usage', message, { hint: 'give the authority that signed it to --ca-bundle', cause: error });
  }
  // Node tells what a proxy answered to CONNECT.
  const status = code === 'ERR_PROXY_TUNNEL' ? (error as { statusCode?: number }).statusCode : undefined;
  if (status !== undefined && [401, 403, 407].includes(status)) return refusedByProxy(target, status);
  const kind = kindOf(error);
  return new StepError(kind === 'bug' ? 'transient' : kind, message, {
    hint: 'check the address, the network and HTTPS_PROXY',
    cause: error,
  });
}

/** OpenSSL's verification errors as Node names them (node:tls documentation, X.509 certificate error codes). */
const certificateCodes = /^(UNABLE_TO_|CERT_|DEPTH_ZERO_|SELF_SIGNED_|ERR_TLS_CERT_ALTNAME_INVALID|HOSTNAME_MISMATCH|INVALID_CA)/;

/** `denied`: what a proxy answers who does not let a request through. */
export function refusedByProxy(target: URL, status: number): StepError {
  return new StepError('denied', `failed to reach ${shownUrl(target)}: the proxy refuses it (${status})`, {
    hint: 'HTTPS_PROXY and HTTP_PROXY may hold user and password: http://user:password@host:port, percent-encoded; NO_PROXY names what needs no proxy',
  });
}
