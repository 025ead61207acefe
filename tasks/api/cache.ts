import { deleteModel as deleteStep } from '../delete/step.ts';
import type { Row } from '../list/show.ts';
import { list as listStep } from '../list/step.ts';
import { prune as pruneStep } from '../prune/step.ts';
import { call, printedBy } from './call.ts';
import type { CallOptions, Duration, ModelOptions, RegistryOptions, StoreOptions, TransferOptions } from './options.ts';

export interface ListOptions extends StoreOptions, TransferOptions, RegistryOptions, CallOptions {
  source?: 'auto' | 's3' | 'local' | 'both';
  modelId?: string;
  modelName?: string;
  workspace?: string;
}

/** A row of list, told here anew: the published types stand alone, and what `listModels` returns holds the two together. */
export interface ListedModel {
  source: 's3' | 'local';
  name: string;
  version: string;
  repo: string;
  commit: string;
  method: string;
  files: number;
  bytes: number;
  /** When it was published, or brought here (ISO 8601). */
  at: string;
  /** URI in the store, or the folder that holds its files. */
  uri: string;
  /** State of the registry's artifact of that place; null when it has none, or was not asked. */
  registered: string | null;
}

/** The models of the store or of the workspace, newest first. */
export async function listModels(options: ListOptions = {}): Promise<ListedModel[]> {
  return JSON.parse((await printedBy(listStep, options)).text) as Row[];
}

export interface DeleteOptions extends Omit<ModelOptions, 'revision'>, StoreOptions, TransferOptions, RegistryOptions, CallOptions {
  source?: 'auto' | 's3' | 'local' | 'both';
  modelDir?: string;
  workspace?: string;
  /** Delete also what is live in the registry. */
  force?: boolean;
  waitTimeout?: Duration;
}

/** Deletes one version of a model, its manifest first; asks nobody. Returns how many objects and bytes went. */
export async function deleteModel(options: DeleteOptions): Promise<{ objects: number; bytes: number }> {
  const results = await call(deleteStep, { ...options, yes: true });
  return { objects: Number(results['deleted-objects']), bytes: Number(results['deleted-bytes']) };
}

export interface PruneOptions extends StoreOptions, TransferOptions, RegistryOptions, CallOptions {
  /** Keep so many of the newest versions of each model. */
  keep?: number;
  olderThan?: Duration;
  leftovers?: boolean;
  leftoversAge?: Duration;
  modelId?: string;
  modelName?: string;
}

/** Deletes old versions, and what killed runs left; never what the registry has in use. */
export async function pruneModels(options: PruneOptions): Promise<{ keptVersions: number; deletedVersions: number; deletedBytes: number }> {
  const results = await call(pruneStep, options);
  return {
    keptVersions: Number(results['kept-versions']),
    deletedVersions: Number(results['deleted-versions']),
    deletedBytes: Number(results['deleted-bytes']),
  };
}
