import { fetch as fetchStep } from '../fetch/step.ts';
import { call } from './call.ts';
import type { CallOptions, Duration, HubOptions, ModelOptions, SelectionOptions, StoreOptions, TransferOptions } from './options.ts';

export interface FetchOptions extends ModelOptions, SelectionOptions, HubOptions, StoreOptions, TransferOptions, CallOptions {
  /** Folder that the files shall lie right in; default: one of the workspace. */
  modelDir?: string;
  workspace?: string;
  /** Also make it one of huggingface_hub's cache here (HF_HOME). */
  link?: string;
  fallback?: 'hub' | 'none';
  /** Publish what came from the Hub. */
  fill?: boolean;
  refresh?: boolean;
  /** Hash what is there already. */
  verify?: boolean;
  select?: 'all' | 'tokenizer' | 'config';
  waitTimeout?: Duration;
  metricsFile?: string;
  metricsPushUrl?: string;
}

export interface FetchedModel {
  source: 'local' | 's3' | 'hub';
  cache: 'hit' | 'miss';
  /** Folder that holds its files. */
  path: string;
  /** That were brought. */
  bytes: number;
  seconds: number;
  commit: string;
  manifestSha256: string;
  fileCount: number;
  totalBytes: number;
  /** In the store; undefined when it is not there. */
  modelUri: string | undefined;
  filled: boolean;
}

/** Gets a model into a local folder: what is there, else from the store, else from the Hub. */
export async function fetchModel(options: FetchOptions): Promise<FetchedModel> {
  const results = await call(fetchStep, options);
  return {
    source: results.source as FetchedModel['source'],
    cache: results.cache as FetchedModel['cache'],
    path: results.path,
    bytes: Number(results.bytes),
    seconds: Number(results.seconds),
    commit: results.commit,
    manifestSha256: results['manifest-sha256'],
    fileCount: Number(results['file-count']),
    totalBytes: Number(results['total-bytes']),
    modelUri: results['model-uri'] || undefined,
    filled: results.filled === 'true',
  };
}
