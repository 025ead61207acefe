import type { IncomingHttpHeaders } from 'node:http';
import { oneLine, StepError } from '../errors.ts';
import { askedWaitMs } from '../transfer/retry.ts';

/** What was asked of the Hub, for the error's words. */
export interface Asked {
  /** `list acme/tiny at 0123`: stands behind "failed to". */
  doing: string;
  repo: string;
  /** Address of the Hub, without a slash at its end. */
  hubUrl: string;
  hasToken: boolean;
}

/**
 * The error behind an answer of the Hub, told from its status and X-Error-Code alone (huggingface_hub, utils/_http.py, knows the same codes).
 * A repository that is missing and one that is private look alike to the anonymous: 401.
 */
export function hubError({ doing, repo, hubUrl, hasToken }: Asked, status: number, headers: IncomingHttpHeaders): StepError {
  const page = `${hubUrl}/${repo}`;
  const said = oneLine(String(headers['x-error-message'] ?? '')).slice(0, 200);
  const make = (kind: StepError['kind'], why: string, hint?: string) => new StepError(kind, `failed to ${doing}: ${why}`, { hint });
  switch (headers['x-error-code']) {
    case 'GatedRepo':
      if (hasToken) return make('denied', 'it is gated, and the token has no access', `ask for access at ${page} with the token's account`);
      return make('denied', 'it is gated', `accept its terms at ${page} and set HF_TOKEN`);
    case 'RevisionNotFound':
      return make('not-found', 'there is no such revision', `branches and tags stand at ${page}/tree/main; a commit is given in full`);
    case 'EntryNotFound':
      return make('not-found', 'there is no such file at this commit');
    case 'DisabledRepo':
      return make('denied', 'the Hub has disabled it', `see ${page}`);
    case 'RepoNotFound':
      return noSuchRepo(make, hasToken);
  }
  if (status === 401 && !hasToken) return noSuchRepo(make, hasToken);
  if (status === 401) return make('denied', 'the token is not accepted', 'set HF_TOKEN to a valid token, or unset it for public models');
  if (status === 403) return make('denied', said || 'the answer is 403', `see ${page} with the token's account`);
  if (status === 404) return make('not-found', 'the answer is 404', 'check --model-id and --hub-url');
  if (status === 407) return make('denied', 'the proxy wants credentials', 'put them into HTTPS_PROXY');
  if (status === 416) return make('integrity', 'it is shorter than the listing says');
  if (isPassing(status)) {
    const why = status === 429 ? 'the Hub limits the rate (429)' : `the answer is ${status}`;
    return new StepError('transient', `failed to ${doing}: ${why}`, {
      retryAfterMs: askedWaitMs(status, headers),
      hint: hintFor(status, hasToken),
    });
  }
  return make('usage', `the answer is ${status}${said ? `: ${said}` : ''}`, 'check --hub-url: it must be the Hub or a mirror of it');
}

/** True for statuses that another try may mend. */
export function isPassing(status: number): boolean {
  return status === 408 || status === 425 || status === 429 || status >= 500;
}

function noSuchRepo(make: (kind: 'not-found', why: string, hint: string) => StepError, hasToken: boolean): StepError {
  const hint = hasToken ? 'and that the token may read it, if it is private' : 'and set HF_TOKEN if it is private';
  return make('not-found', 'there is no such model', `check --model-id, ${hint}`);
}

function hintFor(status: number, hasToken: boolean): string | undefined {
  return status === 429 && !hasToken ? 'with HF_TOKEN set, the limit is higher' : undefined;
}
