import { sha256Of } from '../../lib/integrity.ts';
import { namesStore } from '../../lib/model-uri.ts';
import type { Part, SelectionOptions } from '../../lib/selection.ts';

export interface RequestParams {
  modelUri?: string | undefined;
  modelId?: string | undefined;
  revision: string;
  modelName?: string | undefined;
  modelVersion?: string | undefined;
  allowPatterns: readonly string[];
  ignorePatterns: readonly string[];
  profile: SelectionOptions['profile'];
  select: Part;
  fallback: 'hub' | 'none';
  fill: boolean;
  s3Bucket?: string | undefined;
  storeDir?: string | undefined;
  keyTemplate: string;
}

/** All that does not go together. */
export function requestFaults(params: RequestParams): string[] {
  const { modelUri, modelId, modelName, modelVersion, fallback, fill, select } = params;
  const store = namesStore(params);
  return [
    ...((modelUri ?? modelId ?? modelName) ? [] : ['one of --model-id, --model-name and --model-uri must be given']),
    ...(modelUri !== undefined && (modelName ?? modelVersion) !== undefined
      ? ['--model-uri names a version by itself: leave --model-name and --model-version out']
      : []),
    ...(modelUri?.startsWith('file:') && params.storeDir === undefined
      ? ['--model-uri file:... needs the --store-dir that it lies in']
      : []),
    ...(!store && fallback === 'none'
      ? ['without --s3-bucket or --store-dir there is nothing to fetch from but the Hub: --fallback none']
      : []),
    ...(!store && modelId === undefined && modelUri === undefined
      ? ['--model-name needs --s3-bucket or --store-dir: the Hub knows --model-id alone']
      : []),
    ...(fill && !store ? ['--fill needs --s3-bucket or --store-dir'] : []),
    ...(fill && fallback === 'none' ? ['--fill publishes what comes from the Hub: --fallback none leaves nothing'] : []),
    ...(fill && select !== 'all' ? [`--fill publishes whole models: not with --select ${select}`] : []),
  ];
}

const askedFor = [
  'modelUri',
  'modelId',
  'revision',
  'modelName',
  'modelVersion',
  'allowPatterns',
  'ignorePatterns',
  'profile',
  'select',
  's3Bucket',
  'storeDir',
  'keyTemplate',
] as const satisfies readonly (keyof RequestParams)[];

/** Names what was asked for: a folder that was filled for the same request needs no question to anyone. */
export function requestKey(params: RequestParams): string {
  return sha256Of(JSON.stringify(askedFor.map((name) => params[name] ?? null)));
}
