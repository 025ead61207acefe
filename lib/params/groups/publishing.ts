import { group } from '../declare.ts';
import { policyParams } from './policy.ts';
import { s3Params, storeDirParams } from './store.ts';

export const publishParams = group('Publishing', {
  replace: { type: 'boolean', description: 'Replace what is published under this prefix.', default: false },
  rayHash: { type: 'boolean', description: 'Add the one sidecar that Ray LLM reads: <prefix>/hash.', default: false },
});

export const copyParams = group('Publishing', {
  copyFrom: {
    type: 'array',
    items: { type: 'string' },
    description:
      'Published models in the same store to copy equal files from.\n\nModel URIs or prefixes; all that is published below one counts.',
    default: [],
  },
});

/** Asked before a model is published. */
export const lintParams = group('Publishing', {
  lint: {
    type: 'string',
    enum: ['warn', 'error', 'off'],
    description: 'Say what may keep a server from it, refuse it then, or do not look.',
    default: 'warn',
  },
});

/** Of every step that publishes: where a model goes, and by which rules. */
export const destinationParams = {
  ...s3Params,
  ...storeDirParams,
  ...publishParams,
  ...copyParams,
  ...policyParams,
  ...lintParams,
} as const;
