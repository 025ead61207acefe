import { utimes } from 'node:fs/promises';
import type { StepContext } from '../../lib/define-step.ts';
import { resultsOf } from '../../lib/pass-on.ts';
import { copyReport } from './report-files.ts';
import type { Found } from './source.ts';

/** The results where all is there. The newest manifest is the one that the next step takes. */
export async function nothingToDo(
  { folder, manifest, bytes }: Found,
  { workspace, reportDir }: { workspace: string; reportDir?: string | undefined },
  { log, dryRun }: Pick<StepContext, 'log' | 'dryRun'>,
) {
  if (!dryRun) {
    await utimes(folder.manifest, new Date(), new Date());
    await copyReport(folder, manifest.derived?.method ?? '', reportDir, log);
  }
  log.info({ manifest: folder.manifest }, 'nothing to do: it is there');
  return resultsOf(workspace, folder.manifest, manifest, bytes);
}
