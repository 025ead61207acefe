import type { IncomingMessage } from 'node:http';
import type { Refusal } from './answer.ts';
import type { FakeRepo } from './repo.ts';

export interface Token {
  name?: string;
  /** Ids of the gated and private repositories which this token may read; default none. */
  access?: string[];
}

/** Who asks: nobody, a known token, or one that the Hub does not know. */
export type Caller = 'anonymous' | 'bad' | Token;

/** The caller behind a request's Authorization. */
export function callerOf(request: IncomingMessage, tokens: Record<string, Token>): Caller {
  const header = request.headers.authorization;
  if (header === undefined) return 'anonymous';
  const token = /^Bearer (.+)$/i.exec(header)?.[1];
  return (token !== undefined && Object.hasOwn(tokens, token) ? tokens[token] : undefined) ?? 'bad';
}

export const badToken: Refusal = { status: 401, message: 'Invalid credentials in Authorization header' };
export const notLoggedIn: Refusal = { status: 401, message: 'Invalid username or password.' };

/**
 * Why the caller may not read the repository, or undefined when he may. Missing and private repositories look the same: 401 without an
 * error code to the anonymous, 404 RepoNotFound to a token. A gated one is listed for everyone, its files are 401 or 403 GatedRepo.
 */
export function refusal(repo: FakeRepo | undefined, caller: Caller, wants: 'listing' | 'files'): Refusal | undefined {
  if (caller === 'bad') return badToken;
  const access = repo !== undefined && caller !== 'anonymous' && (caller.access ?? []).includes(repo.id);
  if (repo === undefined || (repo.private && !access)) {
    return caller === 'anonymous' ? notLoggedIn : { status: 404, code: 'RepoNotFound', message: 'Repository not found' };
  }
  if (!repo.gated || access || (wants === 'listing' && !repo.gateListing)) return undefined;
  const restricted = `Access to model ${repo.id} is restricted`;
  if (caller === 'anonymous') {
    const message = `${restricted}. You must have access to it and be authenticated to access it. Please log in.`;
    return { status: 401, code: 'GatedRepo', message };
  }
  const message = `${restricted} and you are not in the authorized list. Visit https://huggingface.co/${repo.id} to ask for access.`;
  return { status: 403, code: 'GatedRepo', message };
}
