import { group } from '../declare.ts';

export const s3Params = group('Store', {
  s3Bucket: {
    type: 'string',
    description: 'Bucket that holds the models.',
    pattern: '^[a-z0-9][a-z0-9._-]{1,253}$',
    'x-shape': "a bucket's name: small letters, digits, dots and dashes, no s3:// before it",
    'x-env': ['MODEL_CACHE_BUCKET', 'AWS_S3_BUCKET'],
    'x-credentials-dir': true,
  },
  s3EndpointUrl: {
    type: 'string',
    description: 'Address of an S3 other than AWS; without a scheme it is https.',
    'x-env': ['S3_ENDPOINT', 'AWS_ENDPOINT_URL_S3', 'AWS_ENDPOINT_URL', 'AWS_HOST', 'AWS_S3_ENDPOINT'],
    'x-credentials-dir': true,
  },
  s3Region: {
    type: 'string',
    description: 'Region (default: us-east-1 when an endpoint is given and nothing else).',
    'x-env': ['AWS_REGION', 'AWS_DEFAULT_REGION'],
    'x-credentials-dir': true,
  },
  s3PathStyle: {
    type: 'string',
    enum: ['auto', 'true', 'false'],
    description: 'Bucket in the path instead of the host name; auto: where it is needed.',
    default: 'auto',
  },
  s3Checksum: {
    type: 'string',
    enum: ['auto', 'crc32', 'sha256'],
    description: 'What protects bytes on the wire; auto: the best that the store verifies.',
    default: 'auto',
  },
  s3Sse: { type: 'string', enum: ['AES256', 'aws:kms', 'aws:kms:dsse'], description: 'Server-side encryption to ask for.' },
  s3KmsKeyId: { type: 'string', description: 'KMS key for --s3-sse aws:kms.' },
  s3StorageClass: { type: 'string', description: 'Storage class of the model files.' },
  s3Tags: { type: 'array', items: { type: 'string' }, description: 'Tags of the model files, as key=value.', default: [] },
  keyTemplate: {
    type: 'string',
    description: 'Place of a model in the store.\n\nWords: `{org}` `{repo}` `{name}` `{version}` `{commit}`.',
    default: 'model-data/{name}/{version}',
  },
  controlPrefix: {
    type: 'string',
    description: 'Where manifests, claims and other records lie in the store.',
    pattern: '^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$',
    'x-shape': 'a prefix such as .modelferry or team/.modelferry, without a slash at its ends',
    default: '.modelferry',
  },
  s3CredentialsDir: {
    type: 'string',
    description: 'Folder of a mounted secret: file names are the keys.',
  },
  s3AccessKeyId: { type: 'string', description: 'Access key.', 'x-secret': true, 'x-credentials-dir': true },
  s3SecretAccessKey: { type: 'string', description: 'Secret key.', 'x-secret': true, 'x-credentials-dir': true },
  awsAccessKeyId: { type: 'string', description: 'Access key, first of the AWS chain.', 'x-secret': true, 'x-credentials-dir': true },
  awsSecretAccessKey: { type: 'string', description: 'Secret key, first of the AWS chain.', 'x-secret': true, 'x-credentials-dir': true },
  awsSessionToken: { type: 'string', description: 'Session token beside the AWS keys.', 'x-secret': true, 'x-credentials-dir': true },
});

export const storeDirParams = group('Store', {
  storeDir: { type: 'string', description: 'Folder to use as the store instead of S3.' },
});
