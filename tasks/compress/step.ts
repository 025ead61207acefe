import { schema } from '../../lib/params/declare.ts';
import { manifestParams, workspaceParams } from '../../lib/params/groups.ts';
import { manifestResults } from '../../lib/params/results.ts';
import { isSkipped, passOn } from '../../lib/pass-on.ts';
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
  async run(params, ctx) {
    const results = await passOn(params);
    ctx.log.info(
      { manifest: results.manifest, skipped: isSkipped('compress', params), method: params.method },
      'the model is passed on as it is',
    );
    return results;
  },
});
