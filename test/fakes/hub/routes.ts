import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { badToken, type Caller, callerOf, notLoggedIn, refusal, type Token } from './access.ts';
import { hubHeaders, type Refusal, readBody, sendContent, sendJson, sendRefusal, sendText } from './answer.ts';
import { listTree, modelInfo, treeRow, unknownFields } from './describe.ts';
import { disposition, type Links } from './links.ts';
import type { Commit, FakeRepo, FileEntry } from './repo.ts';

/** What the routes need to know of the Hub. */
export interface HubState {
  repos: Map<string, FakeRepo>;
  tokens: Record<string, Token>;
  pageSize: number;
  resolveCache: boolean;
  gzip: boolean;
  ranges: boolean;
  links: Links;
  /** Where clients reach the Hub and its CDN. */
  origin: (request: IncomingMessage) => string;
  cdnOrigin: () => string;
}

interface Exchange {
  hub: HubState;
  request: IncomingMessage;
  response: ServerResponse;
  caller: Caller;
  query: URLSearchParams;
}

/** Answers any request to the Hub. */
export async function answer(hub: HubState, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const [path = '/', search = ''] = split(request.url ?? '/', '?');
  let parts: string[];
  try {
    parts = path.slice(1).split('/').map(decodeURIComponent);
  } catch {
    return void sendText(response, 400, 'Bad Request');
  }
  const exchange = { hub, request, response, caller: callerOf(request, hub.tokens), query: new URLSearchParams(search) };
  if (path === '/api/whoami-v2') return void whoAmI(exchange);
  const api = parts[0] === 'api' && parts[1] === 'models';
  const cached = parts[0] === 'api' && parts[1] === 'resolve-cache' && parts[2] === 'models';
  const at = api ? 2 : cached ? 3 : 0;
  const [owner, name, ...rest] = parts.slice(at);
  if (!owner || !name)
    return void sendRefusal(request, response, { status: 404, message: "Sorry, we can't find the page you are looking for." });
  const id = `${owner}/${name}`;
  const repo = hub.repos.get(id);
  const moved = repo ? undefined : newId(hub, id);
  if (moved) {
    const location = (request.url ?? '').replace(path, path.replace(`${owner}/${name}`, moved));
    return void sendText(response, 307, `Temporary Redirect. Redirecting to ${location}`, { location });
  }
  if (api) return answerApi(exchange, repo, rest);
  if (cached) return answerFile(exchange, repo, ['resolve-cache', ...rest]);
  return answerFile(exchange, repo, rest);
}

/** The id of a repository that was renamed, or that was asked for in another case. */
function newId(hub: HubState, id: string): string | undefined {
  const match = (repo: FakeRepo) => repo.movedFrom.includes(id) || repo.id.toLowerCase() === id.toLowerCase();
  return [...hub.repos.values()].find(match)?.id;
}

function whoAmI({ caller, request, response }: Exchange): void {
  if (caller === 'anonymous') return void sendRefusal(request, response, notLoggedIn);
  if (caller === 'bad') return void sendRefusal(request, response, badToken);
  const name = caller.name ?? 'someone';
  sendJson(response, 200, {
    type: 'user',
    id: '65a0f1e2d3c4b5a697887766',
    name,
    fullname: name,
    email: `${name}@example.com`,
    emailVerified: true,
    canPay: false,
    billingMode: 'postpaid',
    periodEnd: null,
    isPro: false,
    avatarUrl: '/avatars/default.svg',
    orgs: [],
    auth: { type: 'access_token', accessToken: { displayName: 'test', role: 'read', createdAt: '2026-01-02T03:04:05.000Z' } },
  });
}

async function answerApi(exchange: Exchange, repo: FakeRepo | undefined, [verb, ...rest]: string[]): Promise<void> {
  const { request, response, query, caller } = exchange;
  const refused = refusal(repo, caller, verb === 'auth-check' || verb === 'xet-read-token' ? 'files' : 'listing');
  if (refused || !repo) return void sendRefusal(request, response, refused ?? notLoggedIn);
  if (verb === 'auth-check') return void sendJson(response, 200, { ok: true });
  if (verb === 'refs') return void sendJson(response, 200, refs(repo));
  const [revision, path] = verb === undefined ? ['main', ''] : splitRevision(rest);
  const commit = repo.find(revision);
  if (!commit) return void sendRefusal(request, response, revisionNotFound(revision));
  if (verb === undefined || verb === 'revision') {
    const expand = [...query.getAll('expand'), ...query.getAll('expand[]')];
    const [unknown] = unknownFields(expand);
    if (unknown !== undefined) return void sendJson(response, 400, { error: `Invalid option: ${unknown}` });
    return void sendJson(response, 200, modelInfo(repo, commit, { expand, blobs: isTrue(query.get('blobs')) }));
  }
  if (verb === 'tree') return void tree(exchange, commit, path);
  if (verb === 'paths-info' && request.method === 'POST') return pathsInfo(exchange, commit);
  if (verb === 'xet-read-token') {
    const exp = Math.floor(Date.now() / 1000) + 3600;
    return void sendJson(response, 200, { casUrl: exchange.hub.cdnOrigin(), exp, accessToken: 'xet_token' });
  }
  sendRefusal(request, response, { status: 404, message: "Sorry, we can't find the page you are looking for." });
}

function refs(repo: FakeRepo): object {
  const row = (prefix: string, [name, targetCommit]: [string, string]) => ({ name, ref: `refs/${prefix}/${name}`, targetCommit });
  const branches = [...repo.branches].filter(([name]) => !name.startsWith('refs/'));
  return { branches: branches.map((b) => row('heads', b)), tags: [...repo.tags].map((t) => row('tags', t)), converts: [] };
}

function tree({ hub, request, response, query }: Exchange, commit: Commit, path: string): void {
  const all = listTree(commit, path, isTrue(query.get('recursive')));
  if (!all) return void sendRefusal(request, response, entryNotFound);
  const size = Math.min(Number(query.get('limit')) || hub.pageSize, hub.pageSize);
  const start = Number(Buffer.from(query.get('cursor') ?? '', 'base64').toString() || 0);
  const rows = all.slice(start, start + size).map((entry) => treeRow(entry, isTrue(query.get('expand'))));
  const headers: OutgoingHttpHeaders = {};
  if (start + size < all.length) {
    query.set('cursor', Buffer.from(String(start + size)).toString('base64'));
    headers.link = `<${hub.origin(request)}${split(request.url ?? '', '?')[0]}?${query}>; rel="next"`;
  }
  sendJson(response, 200, rows, headers);
}

/** huggingface_hub sends a form, @huggingface/hub JSON: the Hub takes both. Paths that do not exist are left out of the answer. */
async function pathsInfo({ request, response }: Exchange, commit: Commit): Promise<void> {
  const body = await readBody(request);
  let paths: string[];
  let expand: boolean;
  if (request.headers['content-type']?.startsWith('application/x-www-form-urlencoded')) {
    const form = new URLSearchParams(body);
    paths = form.getAll('paths');
    expand = isTrue(form.get('expand'));
  } else {
    const json = JSON.parse(body) as { paths: string[]; expand?: boolean };
    paths = json.paths;
    expand = json.expand ?? false;
  }
  const entries = paths.map((path) => commit.files.get(path) ?? commit.folders.get(path)).filter((entry) => entry !== undefined);
  const rows = entries.map((entry) => treeRow(entry, expand));
  sendJson(response, 200, rows);
}

async function answerFile(exchange: Exchange, repo: FakeRepo | undefined, [verb, ...rest]: string[]): Promise<void> {
  const { request, response, hub, caller } = exchange;
  if (!['resolve', 'raw', 'resolve-cache'].includes(verb ?? '')) return void sendText(response, 404, 'Not found');
  if (request.method !== 'GET' && request.method !== 'HEAD') return void sendText(response, 405, 'Method not allowed');
  const refused = refusal(repo, caller, 'files');
  if (refused || !repo) return void sendRefusal(request, response, refused ?? notLoggedIn);
  const [revision, path] = splitRevision(rest);
  const commit = repo.find(revision);
  if (!commit) return void sendRefusal(request, response, revisionNotFound(revision));
  const file = commit.files.get(path);
  const headers = { 'x-repo-commit': commit.id, 'accept-ranges': 'bytes' };
  if (!file) return void sendRefusal(request, response, entryNotFound, headers);
  if (verb === 'raw' && file.lfs) return sendPlain(exchange, file.lfs.pointer, file, headers);
  if (file.lfs && verb !== 'raw') return void sendLinked(exchange, repo, commit, file);
  if (verb !== 'resolve' || !hub.resolveCache) return sendPlain(exchange, file.content, file, headers);
  const [from] = split(request.url ?? '', '?');
  const encoded = path.split('/').map(encodeURIComponent).join('/');
  const query = `${encodeURIComponent(from ?? '')}=&etag=${encodeURIComponent(`"${file.oid}"`)}`;
  const location = `/api/resolve-cache/models/${repo.id}/${commit.id}/${encoded}?${query}`;
  const linked = { 'x-linked-etag': `"${file.oid}"`, 'x-linked-size': file.size };
  sendText(response, 307, `Temporary Redirect. Redirecting to ${location}`, { ...headers, ...linked, location });
}

/** The bytes of a file that git itself holds, from the Hub's origin. */
async function sendPlain({ hub, request, response }: Exchange, content: Buffer | FileEntry['content'], file: FileEntry, extra: object) {
  const headers = { ...hubHeaders('resolvers'), ...extra, 'content-type': 'text/plain; charset=utf-8' };
  const all = { ...headers, 'content-disposition': disposition(file.path) };
  await sendContent(request, response, content, all, { etag: `"${file.oid}"`, ranges: hub.ranges, gzip: hub.gzip });
}

/** The way to the bytes of an LFS file: a redirect to the CDN, or for those who ask for it the Xet file info. */
function sendLinked({ hub, request, response }: Exchange, repo: FakeRepo, commit: Commit, file: FileEntry): void {
  const headers: OutgoingHttpHeaders = {
    'x-repo-commit': commit.id,
    'accept-ranges': 'bytes',
    'x-linked-size': file.size,
    'x-linked-etag': `"${file.lfs?.sha256}"`,
  };
  if (file.xetHash) {
    const reconstructionUrl = `${hub.cdnOrigin()}/v1/reconstructions/${file.xetHash}`;
    const refreshUrl = `${hub.origin(request)}/api/models/${repo.id}/xet-read-token/${commit.id}`;
    headers['x-xet-hash'] = file.xetHash;
    headers.link = `<${refreshUrl}>; rel="xet-auth", <${reconstructionUrl}>; rel="xet-reconstruction-info"`;
    const type = 'application/vnd.xet-fileinfo+json';
    if (request.headers.accept?.includes(type)) {
      return void sendJson(response, 200, { hash: file.xetHash, refreshUrl, reconstructionUrl }, { ...headers, 'content-type': type });
    }
  }
  const location = hub.cdnOrigin() + hub.links.sign(repo, file);
  sendText(response, 302, `Found. Redirecting to ${location}`, { ...headers, location });
}

const entryNotFound: Refusal = { status: 404, code: 'EntryNotFound', message: 'Entry not found' };

function revisionNotFound(revision: string): Refusal {
  return { status: 404, code: 'RevisionNotFound', message: `Invalid rev id: ${revision}` };
}

/** Revision and path of the rest of an address: a revision is one part (slashes in it are encoded), but refs/pr/1 may stand as it is. */
function splitRevision(parts: string[]): [string, string] {
  const length = parts[0] === 'refs' ? 3 : 1;
  return [parts.slice(0, length).join('/'), parts.slice(length).join('/')];
}

function split(text: string, mark: string): [string, string] {
  const at = text.indexOf(mark);
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}

function isTrue(value: string | null): boolean {
  return value !== null && /^(true|1)$/i.test(value);
}
