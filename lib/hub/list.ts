import { listFiles as listTree } from '@huggingface/hub';
import { StepError } from '../errors.ts';
import { type HttpAnswer, toResponse } from '../http/answer.ts';
import type { Expected } from '../integrity.ts';
import { shownUrl } from '../shown-url.ts';
import { retry } from '../transfer/retry.ts';
import { follow, type Hub, insist } from './connection.ts';

/** A listing that does not end must not fill the memory. */
const maxPages = 10_000;

/**
 * Every file of a commit, with what its bytes must be: sha256 of LFS and Xet files, the git blob's sha1 of small ones.
 * Throws as resolveRevision does, `refused` when a page leads to another origin, `integrity` when an entry makes no sense.
 */
export async function listFiles(hub: Hub, repo: string, commit: string): Promise<Expected[]> {
  const files: Expected[] = [];
  try {
    for await (const entry of listTree({ repo, revision: commit, recursive: true, hubUrl: hub.url, fetch: hubFetch(hub, repo, commit) })) {
      if (entry.type !== 'file') continue;
      const sha256 = entry.lfs?.oid.replace(/^sha256:/, '');
      files.push({
        path: entry.path,
        size: entry.lfs?.size ?? entry.size,
        ...(sha256 === undefined ? { gitSha1: entry.oid } : { sha256 }),
      });
    }
  } catch (error) {
    if (error instanceof StepError || hub.signal.aborted) throw error;
    throw new StepError('usage', `failed to list ${repo}: the answer is no listing`, {
      hint: 'check --hub-url: it must be the Hub or a mirror of it',
      cause: error,
    });
  }
  for (const file of files) checkEntry(repo, file);
  return files;
}

/**
 * The fetch that @huggingface/hub gets. The token is added here, because the library rejects tokens without `hf_`, which mirrors use;
 * errors are classed here, because it drops their headers.
 */
function hubFetch(hub: Hub, repo: string, commit: string): typeof fetch {
  const doing = `list ${repo} at ${commit.slice(0, 12)}`;
  const pages = new Set<string>();
  return async (input) => {
    const url = String(input);
    if (pages.has(url) || pages.size === maxPages) {
      throw new StepError('integrity', `failed to ${doing}: its pages do not end`, {
        hint: 'the mirror may be at fault: try another --hub-url',
      });
    }
    pages.add(url);
    return await retry({ retries: hub.retries, signal: hub.signal, log: hub.log, what: doing }, async () => {
      const { answer } = await follow(hub, url, { accept: 'application/json' }, hub.signal);
      insist(hub, doing, repo, answer);
      const link = nextPage(hub, doing, answer);
      return await toResponse({ ...answer, headers: { ...answer.headers, link } });
    });
  };
}

/** The Link header in the one form that the library reads: others it takes for the end of the listing. */
function nextPage(hub: Hub, doing: string, { headers, url }: HttpAnswer): string | undefined {
  const next = [headers.link]
    .flat()
    .join()
    .match(/<([^>]*)>\s*(?:;[^,<]*)?;\s*rel="?next\b/)?.[1];
  if (next === undefined) return undefined;
  if (!URL.canParse(next, url) || new URL(next, url).origin !== hub.origin) {
    throw new StepError(
      'refused',
      `failed to ${doing}: the next page is at ${URL.canParse(next, url) ? shownUrl(new URL(next, url)) : next}`,
      {
        hint: `pages from another address than ${hub.origin} are not trusted: give that one to --hub-url`,
      },
    );
  }
  return `<${new URL(next, url).href}>; rel="next"`;
}

function checkEntry(repo: string, { path, size, sha256, gitSha1 }: Expected): void {
  const isHex = (digest: unknown, length: number) => typeof digest === 'string' && digest.length === length && /^[0-9a-f]*$/.test(digest);
  const good = Number.isSafeInteger(size) && size >= 0 && (isHex(sha256, 64) || (sha256 === undefined && isHex(gitSha1, 40)));
  if (good && typeof path === 'string') return;
  throw new StepError('integrity', `failed to list ${repo}: ${JSON.stringify(path)} has no size or no digest in the listing`, {
    hint: 'the mirror may be at fault: try another --hub-url',
  });
}
