import { StepError } from '../../lib/errors.ts';
import { schema } from '../../lib/params/declare.ts';
import { hubParams, modelParams, networkParams, selectionParams, transferParams, workspaceParams } from '../../lib/params/groups.ts';
import { manifestResults } from '../../lib/params/results.ts';
import { defineStep } from '../../lib/step.ts';

export const download = defineStep({
  name: 'download',
  summary: 'Brings a model from the Hub into the workspace, pinned to a commit and verified.',
  params: schema(
    {
      ...modelParams,
      ...selectionParams,
      ...hubParams,
      ...workspaceParams,
      verify: { type: 'boolean', description: 'Hash files that are there already again.', default: false },
      ...transferParams,
      ...networkParams,
    },
    ['modelId'],
  ),
  results: manifestResults,
  async run(): Promise<never> {
    throw new StepError('bug', 'failed to download: not built');
  },
});
