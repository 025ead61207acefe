import { importModel as importStep } from '../import/step.ts';
import { sync as syncStep } from '../sync/step.ts';
import { upload as uploadStep } from '../upload/step.ts';
import { call } from './call.ts';
import type { CallOptions, Duration, HubOptions, RegistryOptions, SelectionOptions, StoreOptions, TransferOptions } from './options.ts';

export interface PublishOptions extends SelectionOptions, HubOptions, StoreOptions, TransferOptions, CallOptions {
  modelId: string;
  revision?: string;
  modelName?: string;
  modelVersion?: string;
  /** Replace what is published at that place. */
  replace?: boolean;
  /** Say what may keep a server from it (the default), refuse it then, or do not look. */
  lint?: 'warn' | 'error' | 'off';
  waitTimeout?: Duration;
}

export interface PublishedModel {
  modelUri: string;
  commit: string;
  manifestSha256: string;
  fileCount: number;
  totalBytes: number;
  uploadedBytes: number;
  copiedBytes: number;
  /** The same model was published before. */
  unchanged: boolean;
}

export interface SyncOptions extends PublishOptions {
  /** How to make it smaller on the way, as sync names it. */
  method?: string;
}

/** Brings a model from the Hub into the store with no disk. */
export async function syncModel(options: SyncOptions): Promise<PublishedModel> {
  return published(await call(syncStep, options));
}

export interface ImportOptions extends PublishOptions, RegistryOptions {
  workspace?: string;
  /** How to make it smaller, as compress names it. */
  method?: string;
  author?: string;
}

/** Downloads, publishes and registers a model in one go. */
export async function importModel(options: ImportOptions): Promise<PublishedModel> {
  return published(await call(importStep, options));
}

export interface UploadOptions extends Omit<PublishOptions, 'modelId' | 'revision' | keyof SelectionOptions | keyof HubOptions> {
  workspace?: string;
  /** As an earlier result gives it; default: the newest of the workspace. */
  manifest?: string;
}

/** Publishes a model of the workspace. */
export async function uploadModel(options: UploadOptions): Promise<PublishedModel> {
  return published(await call(uploadStep, options));
}

function published(
  results: Record<
    'model-uri' | 'commit' | 'manifest-sha256' | 'file-count' | 'total-bytes' | 'uploaded-bytes' | 'copied-bytes' | 'unchanged',
    string
  >,
): PublishedModel {
  return {
    modelUri: results['model-uri'],
    commit: results.commit,
    manifestSha256: results['manifest-sha256'],
    fileCount: Number(results['file-count']),
    totalBytes: Number(results['total-bytes']),
    uploadedBytes: Number(results['uploaded-bytes']),
    copiedBytes: Number(results['copied-bytes']),
    unchanged: results.unchanged === 'true',
  };
}
