import { archiveMethod } from '../methods.ts';
import { methods } from '../quantization/schemes.ts';
import { group } from './declare.ts';

const seconds = (text: string) => ({ type: 'string', 'x-unit': 'ms', default: text }) as const;

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

export const hubParams = group('Hub', {
  hubUrl: {
    type: 'string',
    description: 'Address of the Hub or of a mirror.',
    pattern: '^https?://',
    'x-shape': 'an address such as https://example.com',
    default: 'https://huggingface.co',
    'x-env': ['HF_ENDPOINT'],
  },
  hubToken: {
    type: 'string',
    description: 'Access token for gated and private models.',
    'x-secret': true,
    'x-env': ['HF_TOKEN', 'HUGGINGFACE_TOKEN', 'HUGGING_FACE_HUB_TOKEN'],
    'x-file-env': ['HF_TOKEN_PATH'],
  },
});

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

export const publishParams = group('Publishing', {
  replace: { type: 'boolean', description: 'Replace what is published under this prefix.', default: false },
  rayHash: { type: 'boolean', description: 'Add the one sidecar that Ray LLM reads: <prefix>/hash.', default: false },
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

export const planParams = group('Plan', {
  plan: { type: 'string', description: "Key of a plan, as the plan step's result gives it." },
  planSha256: {
    type: 'string',
    pattern: '^[0-9a-f]{64}$',
    'x-shape': 'a sha256 of 64 hex digits',
    description: 'Digest that the plan must have.',
  },
});

/** Same for every try of one run. */
export const runParams = group('Publishing', {
  runId: {
    type: 'string',
    pattern: '^[A-Za-z0-9._:/-]{1,200}$',
    'x-shape': 'a name of letters, digits and . _ : / -, 200 at most',
    description: 'Name of this run: a retry with the same one goes on at once.',
  },
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

/** Of every step that publishes: where a model goes, and by which rules. */
export const destinationParams = {
  ...s3Params,
  ...storeDirParams,
  ...publishParams,
  ...copyParams,
  ...policyParams,
  ...lintParams,
} as const;

export const waitParams = group('Waiting', {
  waitTimeout: { ...seconds('1h'), description: 'Wait so long for another run that works on the same model.' },
});

export const registryParams = group('Registry', {
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
  author: { type: 'string', description: 'Author of the registered version.' },
  storageKey: { type: 'string', description: 'Name of the secret that a server reads the model with.' },
});

export const metricsParams = group('Metrics', {
  metricsFile: { type: 'string', description: "File for node_exporter's textfile collector, such as modelferry.prom.", 'x-local': true },
  metricsPushUrl: {
    type: 'string',
    pattern: '^https?://',
    'x-shape': 'an address such as https://example.com',
    description: 'Pushgateway that is told of this run.',
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
  retries: { type: 'integer', minimum: 0, maximum: 100, description: 'Tries after the first, for what may pass.', default: 8 },
  stallTimeout: { ...seconds('60s'), description: 'Give up a connection that is silent, or only trickles, for so long.' },
});

export const networkParams = group('Network', {
  caBundle: {
    type: 'string',
    description: "PEM file of certificates to trust besides the system's.",
    'x-env': ['AWS_CA_BUNDLE', 'SSL_CERT_FILE'],
  },
  insecureSkipTlsVerify: { type: 'boolean', description: 'Do not verify certificates: for tests only.', default: false },
});

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

/** A model that somebody has already: published, or in a folder. */
export const existingParams = {
  modelUri: { type: 'string', description: "URI of the published model, as upload's result gives it." },
  modelDir: {
    type: 'string',
    description: 'Folder with the files of one model right in it, in place of the workspace.',
    'x-group': 'Workspace',
  },
  workspace: workspaceParams.workspace,
} as const;

export const sourceParams = {
  source: {
    type: 'string',
    enum: ['auto', 'hub', 's3', 'local', 'both'],
    description: 'Which copies; auto: the store where one is named, else those here.',
    default: 'auto',
  },
} as const;

export const verifyParams = {
  verify: { type: 'boolean', description: 'Hash files that are there already again.', default: false },
} as const;

export const yesParams = {
  yes: { type: 'boolean', description: 'Do not ask.', default: false, 'x-local': true },
} as const;

export const manifestParams = group('Workspace', {
  manifest: { type: 'string', description: "Manifest to work on, as an earlier step's result gives it (default: the newest)." },
  manifestSha256: {
    type: 'string',
    pattern: '^[0-9a-f]{64}$',
    'x-shape': 'a sha256 of 64 hex digits',
    description: 'Digest that the manifest must have.',
  },
});

export const methodParam = group('Compression', {
  method: {
    type: 'string',
    enum: ['none', ...methods, archiveMethod],
    description: 'How to make it smaller; none passes it on, archive packs it, not to be served.',
    default: 'none',
    'x-env': ['COMPRESS_MODEL'],
    'x-words': { false: 'none', true: 'w4a16' },
  },
});

export const compressionParams = group('Compression', {
  ...methodParam,
  groupSize: {
    type: 'integer',
    minimum: -1,
    maximum: 4096,
    description: 'Weights that share a scale: 32, 64, 128 or -1 (a row); for w8a16, w4a16(-asym).',
  },
  ignore: {
    type: 'array',
    items: { type: 'string' },
    description:
      'Leave these modules as they are too: names, or re: and a pattern.\n\nPatterns are matched from the start, as Python does.',
    default: [],
  },
  targets: {
    type: 'array',
    items: { type: 'string' },
    description: 'Take only these: Linear (all), names, or re: and a pattern.',
    default: ['Linear'],
  },
  arithmetic: {
    type: 'string',
    enum: ['f32', 'native'],
    description: 'Round like the reference on a GPU (f32) or on a CPU (native).',
    default: 'f32',
  },
  removeSource: {
    type: 'boolean',
    description: 'Delete the model as it was downloaded, once the smaller one is there.',
    default: false,
  },
});

export const reportParams = group('Compression', {
  reportDir: { type: 'string', description: 'Put report.json and report.html into this folder too (sync: only here).' },
});

/** Every step takes these; runStep reads them. */
export const commonParams = group('Every step', {
  resultsDir: { type: 'string', description: 'Folder for the results, one file each.' },
  logLevel: { type: 'string', enum: ['trace', 'debug', 'info', 'warn', 'error'], description: 'How much to say.', default: 'info' },
  logFormat: { type: 'string', enum: ['auto', 'json', 'pretty'], description: 'auto: pretty on a terminal, else json.', default: 'auto' },
  logFile: { type: 'string', description: 'Also append the log to this file, as JSON.', 'x-local': true },
  dryRun: { type: 'boolean', description: 'Say what would be done, and do nothing.', default: false },
  envFile: { type: 'string', description: 'Read environment from this file (on a terminal: ./.env).', 'x-local': true },
});
