import { join } from 'node:path';
import type { Manifest } from '../manifest.ts';
import { writeAtomically } from '../workspace.ts';
import type { Plan } from './plan.ts';
import { reportOf } from './report.ts';
import { reportPage } from './report-page.ts';
import type { ErrorsByModule } from './shard-run.ts';
import type { SourceModel } from './source-model.ts';

export const reportNames = ['report.json', 'report.html'] as const;

/** Puts the report into a folder, for programs and for people. `errors`: of every shard, in the plan's order. */
export async function writeReport(
  dir: string,
  plan: Plan,
  model: SourceModel,
  errors: readonly ErrorsByModule[],
  before: Manifest,
  after: Manifest,
): Promise<void> {
  const report = reportOf(plan, model, errors, before, after);
  await writeAtomically(join(dir, 'report.json'), `${JSON.stringify(report, null, 1)}\n`);
  await writeAtomically(join(dir, 'report.html'), reportPage(report));
}
