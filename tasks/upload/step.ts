import { StepError } from '../../lib/errors.ts';
import { schema } from '../../lib/params/declare.ts';
import {
  manifestParams,
  namingParams,
  networkParams,
  publishParams,
  s3Params,
  storeDirParams,
  transferParams,
  workspaceParams,
} from '../../lib/params/groups.ts';
import { publishResults } from '../../lib/params/results.ts';
import { defineStep } from '../../lib/step.ts';

export const upload = defineStep({
  name: 'upload',
  summary: 'Publishes the workspace model in the store: whole and verified, or not at all.',
  params: schema({
    ...workspaceParams,
    ...manifestParams,
    ...namingParams,
    ...s3Params,
    ...storeDirParams,
    ...publishParams,
    ...transferParams,
    ...networkParams,
  }),
  results: publishResults,
  async run(): Promise<never> {
    throw new StepError('bug', 'failed to upload: not built');
  },
});
