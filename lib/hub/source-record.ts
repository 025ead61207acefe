import type { Hub } from './connection.ts';
import type { ModelInfo } from './resolve.ts';

/** source.json: what the Hub says besides the bytes. It may change while the manifest does not. */
export function sourceRecord(hub: Hub, repo: string, revision: string, info: ModelInfo): string {
  const { cardData, ...said } = info;
  const { license_name: licenseName, license_link: licenseLink, language } = cardData;
  const card = { licenseName, licenseLink, languages: language === undefined ? undefined : [language].flat() };
  return `${JSON.stringify({ url: `${hub.url}/${repo}`, repo, revision, ...said, ...card }, null, 2)}\n`;
}
