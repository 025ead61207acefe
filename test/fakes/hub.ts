import type { Files } from './content.ts';
import { FakeServer, type Fault, type ListenOptions, type SeenRequest } from './server.ts';

export interface RepoOptions {
  id: string;
  /** Files of the first commit on `main`. */
  files: Files;
  /** Branches made from further commits on top of `main`, by name: the files given are added to or replace those of `main`. */
  revisions?: Record<string, Files>;
  gated?: 'auto' | 'manual' | false;
  private?: boolean;
  /** Files over this many bytes are LFS files whatever .gitattributes says; default 10 MiB, as on the Hub. */
  lfsOver?: number;
  /** LFS files are Xet files too (xetHash in listings, X-Xet-Hash); the CDN redirect stays as it is. Default false. */
  xet?: boolean;
}

export interface Token {
  name?: string;
  /** Ids of the gated and private repositories which this token may read; default none. */
  access?: string[];
}

export interface HubOptions {
  /** Tokens the Hub knows; any other one is answered by 401. */
  tokens?: Record<string, Token>;
  /** Entries on one page of a listing; default 1000. */
  pageSize?: number;
  /** Plain files answer a 307 to /api/resolve-cache/..., as huggingface.co does; default true. */
  resolveCache?: boolean;
  /** A signed CDN address answers 403 after this many requests; default: never. */
  linkUses?: number;
}

/** A commit of a fake repository. */
export interface FakeCommit {
  sha: string;
  files: Files;
}

/** A model repository on the fake Hub: commits, branches and tags. */
export interface FakeRepo {
  readonly id: string;
  gated: 'auto' | 'manual' | false;
  private: boolean;
  /** Adds a commit on a branch (default `main`, made when missing): `files` added or replaced, `remove` taken away. Returns its sha. */
  commit(change: { branch?: string; files?: Files; remove?: string[]; message?: string }): string;
  /** Names a commit (branch, tag or sha; default `main`) by a tag. */
  tag(name: string, revision?: string): void;
  /** The full commit sha behind a branch, tag or sha; default `main`. */
  sha(revision?: string): string;
  /** The files of a revision; default `main`. */
  files(revision?: string): Files;
}

/** A Hugging Face Hub and its CDN on two origins, which answer as huggingface.co does. */
export class FakeHub {
  readonly hub: FakeServer;
  /** Where the bytes of LFS files come from: another origin; refuses any request that carries Authorization, as a presigned S3 URL does. */
  readonly cdn: FakeServer;

  constructor(_options: HubOptions = {}) {
    this.hub = new FakeServer(async (_request, response) => void response.writeHead(501).end());
    this.cdn = new FakeServer(async (_request, response) => void response.writeHead(501).end());
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

  addRepo(_options: RepoOptions): FakeRepo {
    throw new Error('not built yet');
  }

  repo(_id: string): FakeRepo {
    throw new Error('not built yet');
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
  revokeLinks(): void {}

  async listen(options: ListenOptions & { cdnPort?: number } = {}): Promise<this> {
    const { cdnPort, ...hub } = options;
    await Promise.all([this.hub.listen(hub), this.cdn.listen({ ...hub, port: cdnPort ?? 0 })]);
    return this;
  }

  async close(): Promise<void> {
    await Promise.all([this.hub.close(), this.cdn.close()]);
  }
}
