import { oneLine } from '../../lib/errors.ts';
import { showBytes } from '../../lib/units.ts';

export interface FetchPlan {
  source: 'local' | 's3' | 'hub';
  /** In the store, where it is there. */
  uri: string;
  commit: string;
  path: string;
  files: readonly { path: string; size: number }[];
}

/** What a fetch would do, as text for people, or as one line of JSON for machines. */
export function showPlan({ files, ...plan }: FetchPlan, forPeople: boolean): string {
  const totalBytes = files.reduce((sum, { size }) => sum + size, 0);
  if (!forPeople) return `${JSON.stringify({ ...plan, totalBytes, files: files.map(({ path, size }) => ({ path, size })) })}\n`;
  const from = { local: 'is there already', s3: `comes from ${plan.uri}`, hub: 'comes from the Hub' }[plan.source];
  const lines = [
    `commit ${plan.commit} ${from}`,
    `  folder  ${plan.path}`,
    `  files   ${files.length}, ${showBytes(totalBytes)}`,
    '',
    ...files.map(({ path, size }) => `${showBytes(size).padStart(10)}  ${oneLine(path)}`),
  ];
  return `${lines.join('\n')}\n`;
}
