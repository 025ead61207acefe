/** A table in Markdown; all columns but the first two are numbers, to the right. */
export function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map((_, i) => (i < 2 ? '---' : '---:'))), ...rows.map(line)].join('\n');
}

/** Seconds to 10 ms. */
export function seconds(value: number): string {
  return value.toFixed(2);
}

/** Bytes as whole MiB. */
export function mebibytes(bytes: number): string {
  return String(Math.round(bytes / 1024 ** 2));
}

/** Ours to theirs. */
export function ratio(ours: number, theirs: number): string {
  return theirs === 0 ? '' : (ours / theirs).toFixed(2);
}
