import type { Hub } from './connection.ts';
import type { ModelInfo } from './resolve.ts';

/** source.json: what the Hub says besides the bytes. It may change while the manifest does not. */
export function sourceRecord(hub: Hub, repo: string, revision: string, info: ModelInfo): string {
  const { cardData: _, ...said } = info;
  return `${JSON.stringify({ url: `${hub.url}/${repo}`, repo, revision, ...said }, null, 2)}\n`;
}
