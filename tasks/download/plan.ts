import { partsOf, planLine, sum, termsJson, termsLine } from '../../lib/dry-run.ts';
import { oneLine } from '../../lib/errors.ts';
import type { ModelInfo } from '../../lib/hub/resolve.ts';
import { showBytes } from '../../lib/units.ts';

export interface DownloadPlan {
  model: string;
  revision: string;
  info: ModelInfo;
  folder: string;
  files: readonly { path: string; size: number; missing: number | undefined }[];
  /** Bytes. */
  partSize: number;
}

/** What a download would do, as text for people, or as one line of JSON for machines; `missing` are the bytes of a file that are still to come, undefined where all of it is there. */
export function showPlan({ info, files, partSize, ...plan }: DownloadPlan, forPeople: boolean): string {
  const { commit } = info;
  const left = files.flatMap(({ missing }) => (missing === undefined ? [] : [{ size: missing }]));
  const [all, move] = [sum(files), sum(left)];
  const skip = { files: all.files - move.files, bytes: all.bytes - move.bytes };
  const parts = partsOf(left, () => partSize);
  if (!forPeople) {
    const shown = files.map(({ path, size }) => ({ path, size }));
    const totals = { totalBytes: all.bytes, bytesToMove: move.bytes, move, skip, parts, pods: 1 };
    return `${JSON.stringify({ ...plan, commit, ...termsJson(info), ...totals, files: shown })}\n`;
  }
  const { model, revision, folder } = plan;
  const lines = [
    revision === commit ? `${model} at commit ${commit}` : `${model} at ${revision} is commit ${commit}`,
    termsLine(info),
    planLine('files', all),
    planLine('to move', `${move.files} files, ${showBytes(move.bytes)} in ${parts} ranges, into ${folder}`),
    planLine('there', skip),
    '',
    ...files.map(({ path, size }) => `${showBytes(size).padStart(10)}  ${oneLine(path)}`),
  ];
  return `${lines.join('\n')}\n`;
}
