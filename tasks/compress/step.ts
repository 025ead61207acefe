import { StepError } from '../../lib/errors.ts';
import { schema } from '../../lib/params/declare.ts';
import { manifestParams, workspaceParams } from '../../lib/params/groups.ts';
import { manifestResults } from '../../lib/params/results.ts';
import { defineStep } from '../../lib/step.ts';

export const compress = defineStep({
  name: 'compress',
  summary: 'Passes the model on as it is; makes a smaller one once methods are built.',
  params: schema({
    ...workspaceParams,
    ...manifestParams,
    method: {
      type: 'string',
      enum: ['none'],
      description: 'How to make it smaller: none passes it on.',
      default: 'none',
      'x-env': ['COMPRESS_MODEL'],
      'x-words': { false: 'none', true: 'w4a16' },
    },
  }),
  results: manifestResults,
  async run(): Promise<never> {
    throw new StepError('bug', 'failed to compress: not built');
  },
});
