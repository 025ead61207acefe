import { quoted } from '../../lib/registry/connection.ts';
import type { Change } from '../../lib/registry/registry.ts';

/** What a dry run would write, as text for people, or as one line of JSON for machines. */
export function showChanges(changes: readonly Change[], forPeople: boolean): string {
  if (!forPeople) return `${JSON.stringify({ unchanged: changes.length === 0, changes })}\n`;
  if (changes.length === 0) return 'nothing would change\n';
  return changes
    .map(({ action, record, name, fields }) => `would ${action} ${record} ${quoted(name)}: ${JSON.stringify(fields)}\n`)
    .join('');
}
