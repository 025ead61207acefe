import { group } from '../declare.ts';

/** Of every step that asks somebody over the network. */
export const requestParams = group('Transfer', {
  retries: { type: 'integer', minimum: 0, maximum: 100, description: 'Tries after the first, for what may pass.', default: 8 },
  stallTimeout: {
    type: 'string',
    'x-unit': 'ms',
    default: '60s',
    description: 'Give up a connection that is silent, or only trickles, for so long.',
  },
});

export const transferParams = group('Transfer', {
  concurrency: { type: 'integer', minimum: 1, maximum: 256, description: 'Connections at once, over all files.', default: 8 },
  partSize: { type: 'string', 'x-unit': 'bytes', description: 'Bytes of one range or part.', default: '16MiB' },
  maxMemory: { type: 'string', 'x-unit': 'bytes', description: 'Resident memory to stay under.', default: '256MiB' },
  bandwidthLimit: {
    type: 'string',
    'x-unit': 'bytes',
    description: 'Bytes per second that all connections together may take in, and as many out.',
  },
  ...requestParams,
});

export const networkParams = group('Network', {
  caBundle: {
    type: 'string',
    description: "PEM file of certificates to trust besides the system's.",
    'x-env': ['AWS_CA_BUNDLE', 'SSL_CERT_FILE'],
  },
  insecureSkipTlsVerify: { type: 'boolean', description: 'Do not verify certificates: for tests only.', default: false },
});
