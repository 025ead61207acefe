import { group, sha256Shape } from '../declare.ts';

export const workspaceParams = group('Workspace', {
  workspace: {
    type: 'string',
    description: 'Folder or volume that the steps share.',
    default: './modelferry-workspace',
    'x-env': ['MODEL_CACHE_DIR'],
  },
  taskName: { type: 'string', description: 'Name of this task, for --skip-tasks.' },
  skipTasks: {
    type: 'array',
    items: { type: 'string' },
    description: 'A step named here does nothing and passes the newest manifest on.',
    default: [],
  },
});

export const manifestParams = group('Workspace', {
  manifest: { type: 'string', description: "Manifest to work on, as an earlier step's result gives it (default: the newest)." },
  manifestSha256: { ...sha256Shape, description: 'Digest that the manifest must have.' },
});

export const verifyParams = group('Workspace', {
  verify: { type: 'boolean', description: 'Hash files that are there already again.', default: false },
});
