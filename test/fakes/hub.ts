import type { IncomingMessage } from 'node:http';
import type { Token } from './hub/access.ts';
import { type LinkOptions, Links } from './hub/links.ts';
import { FakeRepo, type RepoOptions } from './hub/repo.ts';
import { answer, type HubState } from './hub/routes.ts';
import { keepSecret } from './leaks.ts';
import { FakeServer, type Fault, type ListenOptions, type SeenRequest } from './server.ts';

export type { Token } from './hub/access.ts';
export type { Change, FakeRepo, Gated, RepoOptions } from './hub/repo.ts';

export interface HubOptions extends LinkOptions {
  /** Tokens the Hub knows; any other one is answered by 401. */
  tokens?: Record<string, Token>;
  /** Entries on one page of a listing; default 1000, as on the Hub. */
  pageSize?: number;
  /** Plain files answer a 307 to /api/resolve-cache/..., as on the Hub; default true. */
  resolveCache?: boolean;
  /** Plain files of 1000 bytes and more are compressed for clients that accept it, without a length, as on the Hub; default true. */
  gzip?: boolean;
  /** Origins that stand in redirects and links, where clients reach them by another address than they listen on. */
  publicUrl?: string;
  publicCdnUrl?: string;
}

/**
 * A Hugging Face Hub and its CDN on two origins, which answer as huggingface.co does. Not there: datasets, spaces, uploads, search,
 * and the Xet protocol behind its announcements.
 */
export class FakeHub {
  /** The API and the small files. */
  readonly hub: FakeServer;
  /** Where the bytes of LFS files come from: another origin; 400 to any request that carries Authorization, as a presigned S3 URL gives. */
  readonly cdn: FakeServer;
  readonly #repos = new Map<string, FakeRepo>();
  readonly #links: Links;

  constructor(options: HubOptions = {}) {
    this.#links = new Links(options);
    const state: HubState = {
      repos: this.#repos,
      tokens: options.tokens ?? {},
      pageSize: options.pageSize ?? 1000,
      resolveCache: options.resolveCache ?? true,
      gzip: options.gzip ?? true,
      ranges: options.ranges ?? true,
      links: this.#links,
      origin: (request) => options.publicUrl ?? askedOrigin(request),
      cdnOrigin: () => options.publicCdnUrl ?? this.cdn.origin,
    };
    this.hub = new FakeServer((request, response) => answer(state, request, response), 'hub');
    for (const token of Object.keys(state.tokens)) keepSecret(token, 'hub');
    this.cdn = new FakeServer((request, response) => this.#links.serve(request, response));
  }

  /** Origin of the Hub, after listen(): what HF_ENDPOINT is set to. */
  get origin(): string {
    return this.hub.origin;
  }

  /** Requests the Hub saw; those of the CDN are in `cdn.requests`. */
  get requests(): SeenRequest[] {
    return this.hub.requests;
  }

  /** Body bytes sent by the Hub and the CDN. */
  get servedBytes(): number {
    return [...this.hub.requests, ...this.cdn.requests].reduce((sum, request) => sum + request.bytesOut, 0);
  }

  /** Adds a repository; one of the same id is replaced. */
  addRepo(options: RepoOptions): FakeRepo {
    const repo = new FakeRepo(options);
    this.#repos.set(repo.id, repo);
    return repo;
  }

  /** The repository of that id; throws when there is none. */
  repo(id: string): FakeRepo {
    const repo = this.#repos.get(id);
    if (!repo) throw new Error(`the fake Hub has no repository ${id}`);
    return repo;
  }

  /** Adds a fault on the Hub; `cdn.fail` adds one on the CDN. Returns a function that takes it away. */
  fail(fault: Fault): () => void {
    return this.hub.fail(fault);
  }

  /** The Hub's requests whose `METHOD /path?query` matches; `cdn.seen` for the CDN. */
  seen(pattern: RegExp): SeenRequest[] {
    return this.hub.seen(pattern);
  }

  /** Every signed CDN address given out so far answers 403 from now on. */
  revokeLinks(): void {
    this.#links.revoke();
  }

  /** Listens with both servers; free ports unless given. */
  async listen({ cdnPort = 0, ...options }: ListenOptions & { cdnPort?: number } = {}): Promise<this> {
    await Promise.all([this.hub.listen(options), this.cdn.listen({ ...options, port: cdnPort })]);
    return this;
  }

  /** Closes both servers and every open connection. */
  async close(): Promise<void> {
    await Promise.all([this.hub.close(), this.cdn.close()]);
  }
}

/** The answer of a Hub whose request budget is spent, for `fail({ on, answer: tooManyRequests(1) })`: it comes back in `seconds`. */
export function tooManyRequests(seconds: number): NonNullable<Fault['answer']> {
  const headers = { ratelimit: `"api";r=0;t=${seconds}`, 'ratelimit-policy': '"fixed window";"api";q=500;w=300' };
  const body = JSON.stringify({ error: 'We had to rate limit you, you hit the quota of 500 requests per 5 minutes period.' });
  return { status: 429, headers: { ...headers, 'retry-after': String(seconds), 'content-type': 'application/json; charset=utf-8' }, body };
}

function askedOrigin(request: IncomingMessage): string {
  return `${'encrypted' in request.socket ? 'https' : 'http'}://${request.headers.host}`;
}
