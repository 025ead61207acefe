import { oneLine } from '../../lib/errors.ts';
import { showBytes } from '../../lib/units.ts';

/** One model, in the store or here. */
export interface Row {
  source: 's3' | 'local';
  name: string;
  version: string;
  repo: string;
  commit: string;
  method: string;
  files: number;
  bytes: number;
  /** When it was published, or brought here (ISO 8601). */
  at: string;
  /** URI in the store, or the folder that holds its files. */
  uri: string;
  /** What the registry's artifact of that place is: LIVE or PENDING; null when it has none, or was not asked. */
  registered: string | null;
}

/** A table for people, or one JSON array for machines. */
export function showRows(rows: readonly Row[], forPeople: boolean): string {
  if (!forPeople) return `${JSON.stringify(rows)}\n`;
  if (rows.length === 0) return 'no models\n';
  const head = ['', 'NAME', 'VERSION', 'SOURCE', 'COMMIT', 'METHOD', 'FILES', 'SIZE', 'DATE', 'WHERE'];
  const lines = rows.map((row) => [
    row.registered === 'LIVE' ? '*' : '',
    row.name,
    row.version,
    row.repo,
    row.commit.slice(0, 12),
    row.method,
    String(row.files),
    showBytes(row.bytes),
    row.at.slice(0, 16).replace('T', ' '),
    row.uri,
  ]);
  const table = [head, ...lines].map((cells) => cells.map(oneLine));
  const widths = head.map((_, column) => Math.max(...table.map((cells) => cells[column]?.length ?? 0)));
  const text = table.map((cells) =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
  const total = rows.reduce((sum, { bytes }) => sum + bytes, 0);
  const live = rows.some(({ registered }) => registered === 'LIVE') ? '; * is live in the registry' : '';
  return `${text.join('\n')}\n\n${rows.length} ${rows.length === 1 ? 'model' : 'models'}, ${showBytes(total)}${live}\n`;
}
