import { group } from '../declare.ts';

export const modelParams = group('Model', {
  modelId: {
    type: 'string',
    description: 'Repository on the Hub, as org/name.',
    pattern: '^(?!.*(\\.\\.|--))[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?$',
    'x-shape': 'a repository such as org/name',
    'x-env': ['HUGGINGFACE_MODEL'],
  },
  revision: { type: 'string', description: 'Branch, tag or commit; it is resolved to a commit once.', default: 'main' },
});

export const pinParams = group('Model', {
  pinnedCommit: {
    type: 'string',
    description: 'Commit that an earlier step resolved --revision to; the branch is not asked again.',
    pattern: '^[0-9a-f]{40}$',
    'x-shape': 'a commit of 40 hex digits',
  },
});

export const namingParams = group('Model', {
  modelName: {
    type: 'string',
    description: "Name of the model in the store and the registry (default: the repository's).",
    pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$',
    'x-shape': 'a name of letters, digits, dots, dashes and underscores, 128 at most',
  },
  modelVersion: {
    type: 'string',
    description: "Version (default: the commit's first 12, -<method> behind it when compressed).",
    pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$',
    'x-shape': 'a name of letters, digits, dots, dashes and underscores, 128 at most',
  },
});

export const selectionParams = group('Selection', {
  allowPatterns: {
    type: 'array',
    items: { type: 'string' },
    description: 'Take only files that match one of these globs.\n\nA JSON array, or words split by spaces or commas. `*` crosses folders.',
    default: [],
    'x-env': ['HUGGINGFACE_ALLOW_PATTERNS'],
  },
  ignorePatterns: {
    type: 'array',
    items: { type: 'string' },
    description: 'Leave out files that match one of these globs.',
    default: [],
    'x-env': ['HUGGINGFACE_IGNORE_PATTERNS'],
  },
  profile: {
    type: 'string',
    enum: ['all', 'vllm', 'runai', 'kserve', 'ray'],
    description: 'All files, or one set of weights and no junk: for vllm, runai, kserve or ray.',
    default: 'all',
  },
});
