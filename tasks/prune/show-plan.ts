import { oneLine } from '../../lib/errors.ts';
import type { Leftover } from '../../lib/publish/orphans.ts';
import { showBytes } from '../../lib/units.ts';
import type { Version } from './choose.ts';

/** What would go, as text for people, or as one line of JSON for machines. */
export function showGoing(versions: readonly Version[], leftovers: readonly Leftover[], forPeople: boolean): string {
  const shown = versions.map(({ uri, manifest, publishedAt }) => ({
    uri,
    bytes: manifest.totalBytes,
    publishedAt: publishedAt.toISOString(),
  }));
  const keys = leftovers.flatMap(({ objects, records }) => [...objects.map(({ key }) => key), ...records]);
  const uploads = leftovers.flatMap((leftover) => leftover.uploads.map(({ key }) => key));
  if (!forPeople) return `${JSON.stringify({ versions: shown, leftovers: keys, uploads })}\n`;
  const lines = [
    ...shown.map(
      ({ uri, bytes, publishedAt }) => `version   ${oneLine(uri)}  ${showBytes(bytes)}, of ${publishedAt.slice(0, 16).replace('T', ' ')}`,
    ),
    ...keys.map((key) => `leftover  ${oneLine(key)}`),
    ...uploads.map((key) => `upload    ${oneLine(key)}`),
  ];
  return `${lines.length === 0 ? 'nothing to delete' : lines.join('\n')}\n`;
}
