import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { sendContent } from './answer.ts';
import type { FakeRepo, FileEntry } from './repo.ts';

interface Link {
  file: FileEntry;
  path: string;
  expires: number;
  uses: number;
  revoked: boolean;
}

export interface LinkOptions {
  /** A signed CDN address answers 403 after this many requests; default: never. */
  linkUses?: number;
  /** Seconds until a signed CDN address answers 403; default 3600. */
  linkSeconds?: number;
  /** False: the CDN ignores Range and sends the whole, as some mirrors do; default true. */
  ranges?: boolean;
}

/** The signed addresses that the Hub gives out for LFS files, and the CDN behind them. */
export class Links {
  readonly #links = new Map<string, Link>();
  readonly #options: LinkOptions;

  constructor(options: LinkOptions) {
    this.#options = options;
  }

  /** A new signed address for a file, as path and query on the CDN. */
  sign(repo: FakeRepo, file: FileEntry): string {
    const signature = createHash('sha256').update(`${file.oid} ${this.#links.size}`).digest('base64url');
    const sha256 = file.lfs?.sha256 ?? '';
    const path = file.xetHash
      ? `/xet-bridge-us/${repo.objectId}/${file.xetHash}`
      : `/repos/${repo.objectId.slice(0, 2)}/${repo.objectId.slice(2, 4)}/${repo.objectId}/${sha256}`;
    const expires = Date.now() + (this.#options.linkSeconds ?? 3600) * 1000;
    this.#links.set(signature, { file, path, expires, uses: 0, revoked: false });
    const query = new URLSearchParams({
      'response-content-disposition': disposition(file.path),
      Expires: String(Math.ceil(expires / 1000)),
      Policy: Buffer.from(JSON.stringify({ Statement: [{ Resource: path }] })).toString('base64url'),
      Signature: signature,
      'Key-Pair-Id': 'K24J24Z295AEI9',
    });
    return `${path}?${query}`;
  }

  /** Ends every address given out so far. */
  revoke(): void {
    for (const link of this.#links.values()) link.revoked = true;
  }

  /** Answers as the CDN: 400 to any Authorization, 403 to an address that is unknown, over or revoked, else the bytes. */
  async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://cdn');
    if (request.headers.authorization !== undefined) {
      const message = 'Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the';
      return void sendXml(response, 400, 'InvalidArgument', `${message} Authorization header should be specified`);
    }
    if (request.method !== 'GET' && request.method !== 'HEAD') return void sendXml(response, 403, 'AccessDenied', 'Access Denied');
    const link = this.#links.get(url.searchParams.get('Signature') ?? '');
    if (!link || link.path !== url.pathname || link.revoked) return void sendXml(response, 403, 'AccessDenied', 'Access Denied');
    link.uses += 1;
    if (Date.now() >= link.expires || link.uses > (this.#options.linkUses ?? Number.POSITIVE_INFINITY)) {
      return void sendXml(response, 403, 'AccessDenied', 'Request has expired');
    }
    const { file } = link;
    const headers = {
      'content-type': 'application/octet-stream',
      'last-modified': new Date(file.lastCommit.date).toUTCString(),
      'content-disposition': disposition(file.path),
      'cache-control': 'public, max-age=31536000',
    };
    // Not the sha256: the Xet hash, or what S3 gives a multipart object. Who compares this ETag with the Hub's is wrong here too.
    const etag = `"${file.xetHash ?? `${createHash('md5').update(file.oid).digest('hex')}-2`}"`;
    await sendContent(request, response, file.content, headers, { etag, ranges: this.#options.ranges ?? true });
  }
}

/** Content-Disposition of a file, as the Hub writes it. */
export function disposition(path: string): string {
  const name = path.split('/').at(-1) ?? path;
  const ascii = name.replace(/[^\x20-\x7e]|["%\\]/g, '?');
  const encoded = encodeURIComponent(name).replace(/['()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
  return `inline; filename*=UTF-8''${encoded}; filename="${ascii}";`;
}

function sendXml(response: ServerResponse, status: number, code: string, message: string): void {
  const body = `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>${message}</Message></Error>`;
  response.writeHead(status, { 'content-type': 'application/xml', 'content-length': Buffer.byteLength(body) }).end(body);
}
