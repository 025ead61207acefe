import { group } from '../declare.ts';
import { workspaceParams } from './workspace.ts';

/** A model that somebody has already: published, or in a folder. */
export const existingParams = {
  modelUri: { type: 'string', description: "URI of the published model, as upload's result gives it.", 'x-group': 'Model' },
  modelDir: {
    type: 'string',
    description: 'Folder with the files of one model right in it, in place of the workspace.',
    'x-group': 'Workspace',
  },
  workspace: workspaceParams.workspace,
} as const;

export const sourceParams = group('Model', {
  source: {
    type: 'string',
    enum: ['auto', 'hub', 's3', 'local', 'both'],
    description: 'Which copies; auto: the store where one is named, else those here.',
    default: 'auto',
  },
});

export const yesParams = {
  yes: { type: 'boolean', description: 'Do not ask.', default: false, 'x-local': true },
} as const;
