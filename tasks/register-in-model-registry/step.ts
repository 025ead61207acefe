import { StepError } from '../../lib/errors.ts';
import { schema } from '../../lib/params/declare.ts';
import {
  hubParams,
  manifestParams,
  modelParams,
  namingParams,
  networkParams,
  registryParams,
  s3Params,
  storeDirParams,
  workspaceParams,
} from '../../lib/params/groups.ts';
import { defineStep } from '../../lib/step.ts';

export const register = defineStep({
  name: 'register-in-model-registry',
  aliases: ['register'],
  summary: 'Registers a published model in the Kubeflow Model Registry.',
  params: schema({
    phase: {
      type: 'string',
      enum: ['all', 'reserve', 'complete', 'abandon'],
      description: 'all at once, or reserve first, then complete or abandon.',
      default: 'all',
    },
    modelUri: { type: 'string', description: "URI of the published model, as upload's result gives it." },
    modelArtifactId: { type: 'string', description: 'Artifact that a reservation made, for complete and abandon.' },
    ...modelParams,
    ...namingParams,
    ...registryParams,
    ...hubParams,
    ...s3Params,
    ...storeDirParams,
    ...workspaceParams,
    ...manifestParams,
    ...networkParams,
  }),
  results: {
    'registered-model-id': 'Id of the RegisteredModel; empty when there is no registry.',
    'model-version-id': 'Id of the ModelVersion; empty when there is no registry.',
    'model-artifact-id': 'Id of the ModelArtifact; empty when there is no registry.',
    commit: 'Commit that was registered or reserved: the revision for the steps that follow.',
  },
  async run(): Promise<never> {
    throw new StepError('bug', 'failed to register: not built');
  },
});
