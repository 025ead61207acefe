import { group } from '../declare.ts';

export const policyParams = group('Policy', {
  allowUnsafe: {
    type: 'string',
    enum: ['never', 'listed', 'always'],
    description:
      'Files that can run code when they are loaded.\n\nnever: no pickle, no Python file; listed: pickles that import only what PyTorch loads as weights, Python files are told; always: all of them, with a warning.',
    default: 'listed',
  },
  allowLicenses: {
    type: 'array',
    items: { type: 'string' },
    description: "Take only models under one of these licences, named as on the Hub's cards; globs.",
    default: [],
  },
  denyLicenses: { type: 'array', items: { type: 'string' }, description: 'Take no model under one of these licences; globs.', default: [] },
  requireLicense: { type: 'boolean', description: 'Take no model whose card names no licence.', default: false },
});
