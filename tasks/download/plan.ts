import { oneLine } from '../../lib/errors.ts';
import type { ModelInfo } from '../../lib/hub/resolve.ts';
import { showBytes } from '../../lib/units.ts';

export interface DownloadPlan {
  model: string;
  revision: string;
  info: ModelInfo;
  folder: string;
  files: readonly { path: string; size: number }[];
  totalBytes: number;
  bytesToMove: number;
}

/** What a download would do, as text for people, or as one line of JSON for machines. */
export function showPlan({ info, files, ...plan }: DownloadPlan, forPeople: boolean): string {
  const { commit, license = null, gated } = info;
  if (!forPeople) {
    const shown = files.map(({ path, size }) => ({ path, size }));
    return `${JSON.stringify({ ...plan, commit, license, gated, private: info.private, files: shown })}\n`;
  }
  const { model, revision, folder, totalBytes, bytesToMove } = plan;
  const lines = [
    `${model} at ${revision} is commit ${commit}`,
    `  licence  ${oneLine(license ?? 'not said')}${gated ? `, gated (${gated}): a token with access is needed` : ''}`,
    `  files    ${files.length}, ${showBytes(totalBytes)}`,
    `  to move  ${showBytes(bytesToMove)} into ${folder}`,
    '',
    ...files.map(({ path, size }) => `${showBytes(size).padStart(10)}  ${oneLine(path)}`),
  ];
  return `${lines.join('\n')}\n`;
}
