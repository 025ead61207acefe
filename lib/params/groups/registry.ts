import { group } from '../declare.ts';

/** Of steps that only ask it. */
export const registryAddressParams = group('Registry', {
  modelRegistryUrl: {
    type: 'string',
    description: 'Address of the Kubeflow Model Registry; empty: nothing is registered.',
  },
  modelRegistryToken: {
    type: 'string',
    description: 'Bearer token for the registry.',
    'x-secret': true,
    'x-file-env': ['KF_PIPELINES_SA_TOKEN_PATH'],
  },
});

export const registryParams = group('Registry', {
  ...registryAddressParams,
  author: { type: 'string', description: 'Author of the registered version.' },
  storageKey: { type: 'string', description: 'Name of the secret that a server reads the model with.' },
});
