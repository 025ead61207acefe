import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { reportNames } from '../../lib/compression/write-report.ts';
import type { Log } from '../../lib/log.ts';
import { archiveMethod } from '../../lib/methods.ts';
import { type ModelFolder, writeAtomically } from '../../lib/workspace.ts';

/** For the log: where the page for people lies. An archive has none. */
export function reportField({ dir }: ModelFolder, method: string): { report?: string } {
  return method === archiveMethod ? {} : { report: join(dir, 'report.html') };
}

/** For an engine that keeps files of a step, at a place that it knows before. An archive has no report: nothing in it was changed. */
export async function copyReport({ dir }: ModelFolder, method: string, reportDir: string | undefined, log: Log): Promise<void> {
  if (reportDir === undefined || method === archiveMethod) return;
  for (const name of reportNames) {
    const bytes = await readFile(join(dir, name)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
    if (bytes) await writeAtomically(join(reportDir, name), bytes);
    else log.warn({ report: name }, 'there is no report: the model was published before, by a run elsewhere');
  }
}
