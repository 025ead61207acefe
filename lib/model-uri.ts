import { resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { StepError } from './errors.ts';
import { pathFault } from './paths.ts';

/** The bucket that an `s3://` URI names; undefined for any other. */
export function bucketOf(modelUri: string | undefined): string | undefined {
  return /^s3:\/\/([^/]+)/.exec(modelUri ?? '')?.[1];
}

/** The prefix that a model's URI names in the store of that URI, without slashes around it. Throws `usage` for any other place. */
export function prefixIn(storeUri: string, modelUri: string): string {
  const given = modelUri.startsWith('file:') ? pathToFileURL(resolve(fileURLToPath(modelUri))).href : modelUri;
  const prefix = given.startsWith(`${storeUri}/`) ? given.slice(storeUri.length + 1).replace(/\/$/, '') : undefined;
  const fault = prefix === undefined ? `it does not lie in ${storeUri}` : pathFault(prefix);
  if (prefix === undefined || fault !== undefined) {
    throw new StepError('usage', `failed to use --model-uri ${modelUri}: ${fault}`, {
      hint: "give upload's result model-uri, and the same --s3-bucket or --store-dir",
    });
  }
  return prefix;
}

/** What names a store; a model's URI may name the bucket in the parameters' place. */
interface StoreNames {
  modelUri?: string | undefined;
  s3Bucket?: string | undefined;
  storeDir?: string | undefined;
}

/** Whether any store is named. */
export function namesStore({ modelUri, s3Bucket, storeDir }: StoreNames): boolean {
  return bucketOf(modelUri) !== undefined || s3Bucket !== undefined || storeDir !== undefined;
}

/** The parameters with the bucket of the model's URI, where it names one. */
export function withBucketOfUri<Params extends StoreNames>(params: Params): Params {
  return { ...params, s3Bucket: bucketOf(params.modelUri) ?? params.s3Bucket };
}

/**
 * Which copies --source means: `auto` is the store where one is meant, else those on this machine. Throws `usage` for a choice that a step has no
 * use for.
 */
export function chosenSource<Choice extends string, Refused extends Choice>(
  source: Choice,
  refused: readonly Refused[],
  storeIsMeant: boolean,
): Exclude<Choice, Refused | 'auto'> | 's3' | 'local' {
  if ((refused as readonly string[]).includes(source)) {
    throw new StepError('usage', `failed to read parameters: --source ${source} is not for this step`, { hint: 'see --help' });
  }
  if (source === 'auto') return storeIsMeant ? 's3' : 'local';
  return source as Exclude<Choice, Refused | 'auto'>;
}
