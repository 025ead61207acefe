/**
 * modelferry for Node programs: the steps as functions, with the same parameters, defaults and checks as the commands.
 * Whatever is not given is read from the environment by the names that the commands know (S3_BUCKET, HF_TOKEN, AWS_*, ...).
 * A failure is a ModelferryError, whose `kind` tells what to do about it.
 */

import { type CallValue, callStep, type CallOptions as StepCall } from '../lib/call-step.ts';
import type { DefinedStep } from '../lib/define-step.ts';
import { exitCodes, StepError } from '../lib/errors.ts';
import type { ParamMap } from '../lib/params/declare.ts';
import type { ResultDeclarations } from '../lib/results.ts';
import { deleteModel as deleteStep } from './delete/step.ts';
import { fetch as fetchStep } from './fetch/step.ts';
import { importModel as importStep } from './import/step.ts';
import { lint as lintStep } from './lint/step.ts';
import type { Row } from './list/show.ts';
import { list as listStep } from './list/step.ts';
import { prune as pruneStep } from './prune/step.ts';
import { sync as syncStep } from './sync/step.ts';
import { upload as uploadStep } from './upload/step.ts';
import { verify as verifyStep } from './verify/step.ts';

/** Bytes as a number, or text such as `16MiB`. */
export type Bytes = number | string;
/** Milliseconds as a number, or text such as `30s`, `1h`, `7d`. */
export type Duration = number | string;

/** For every function. */
export interface CallOptions {
  /** In place of this process's environment. */
  env?: Record<string, string | undefined>;
  signal?: AbortSignal;
  /** Gets each line of the log, as JSON, without secrets. Default: nobody. */
  onLog?: (line: string) => void;
  logLevel?: 'trace' | 'debug' | 'info' | 'warn' | 'error';
}

export interface TransferOptions {
  /** Connections at once, over all files (8). */
  concurrency?: number;
  /** Bytes of one range or part (16 MiB). */
  partSize?: Bytes;
  /** Resident memory to stay under (256 MiB). */
  maxMemory?: Bytes;
  /** Tries after the first, for what may pass (8). */
  retries?: number;
  /** Give a silent connection up after this long (60 s). */
  stallTimeout?: Duration;
  /** PEM file of certificates to trust besides the system's. */
  caBundle?: string;
}

export interface StoreOptions {
  s3Bucket?: string;
  s3EndpointUrl?: string;
  s3Region?: string;
  s3AccessKeyId?: string;
  s3SecretAccessKey?: string;
  s3PathStyle?: 'auto' | 'true' | 'false';
  /** Folder to use as the store instead of S3. */
  storeDir?: string;
  /** Place of a model in the store (`model-data/{name}/{version}`). */
  keyTemplate?: string;
  controlPrefix?: string;
}

export interface HubOptions {
  hubUrl?: string;
  hubToken?: string;
}

export interface SelectionOptions {
  allowPatterns?: readonly string[];
  ignorePatterns?: readonly string[];
  profile?: 'all' | 'vllm' | 'runai' | 'kserve' | 'ray';
}

/** Which model: a repository at a revision, names in the store, or a URI. */
export interface ModelOptions {
  /** `org/name` */
  modelId?: string;
  revision?: string;
  modelName?: string;
  modelVersion?: string;
  modelUri?: string;
}

export interface RegistryOptions {
  modelRegistryUrl?: string;
  modelRegistryToken?: string;
}

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

export interface ListOptions extends StoreOptions, TransferOptions, RegistryOptions, CallOptions {
  source?: 'auto' | 's3' | 'local' | 'both';
  modelId?: string;
  modelName?: string;
  workspace?: string;
}

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

export interface VerifyOptions extends ModelOptions, HubOptions, StoreOptions, TransferOptions, CallOptions {
  source?: 'auto' | 's3' | 'local';
  modelDir?: string;
  workspace?: string;
  manifest?: string;
  /** Read every byte. */
  deep?: boolean;
  /** Bring back what is wrong. */
  repair?: boolean;
  waitTimeout?: Duration;
}

/** Compares a model with its manifest; throws kind `integrity` naming what is wrong. Returns how many faults were mended. */
export async function verifyModel(options: VerifyOptions): Promise<{ fileCount: number; totalBytes: number; repaired: number }> {
  const results = await call(verifyStep, options);
  return { fileCount: Number(results['file-count']), totalBytes: Number(results['total-bytes']), repaired: Number(results.repaired) };
}

export interface LintOptions extends ModelOptions, SelectionOptions, HubOptions, StoreOptions, TransferOptions, CallOptions {
  source?: 'auto' | 'hub' | 's3' | 'local';
  modelDir?: string;
  workspace?: string;
}

export interface LintFinding {
  severity: 'error' | 'warning';
  rule: string;
  text: string;
}

/** Will it serve? What is wrong with it, errors first; empty when nothing is. */
export async function lintModel(options: LintOptions): Promise<LintFinding[]> {
  const { text, error } = await printedBy(lintStep, options);
  if (text === '') throw error;
  return JSON.parse(text) as LintFinding[];
}

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

export type ErrorKind = 'bug' | 'usage' | 'not-found' | 'denied' | 'transient' | 'integrity' | 'refused' | 'terminated';

/** What every function fails with. */
export interface ModelferryError extends Error {
  /** `transient`: the same call may succeed later. */
  readonly kind: ErrorKind;
  /** What can be done about it. */
  readonly hint: string | undefined;
}

/** Whether a thrown value is one of ours. */
export function isModelferryError(error: unknown): error is ModelferryError {
  return error instanceof StepError && error.kind in exitCodes;
}

type AnyStep = DefinedStep<ParamMap, string, ResultDeclarations>;
type OwnNames<S> = S extends { own: { properties: infer Map } } ? keyof Map : never;
/** Every option must be a parameter of the step: a name that it lacks does not compile. */
type Only<Options, Names> = { [Name in keyof Options]: Name extends Names | keyof CallOptions ? Options[Name] : never };

async function call<S, Options extends CallOptions>(step: S, options: Options & Only<Options, OwnNames<S>>): Promise<ResultsOf<S>> {
  return await callWith(step, options, () => {});
}

type ResultsOf<S> = S extends { results: infer Declared } ? { [Name in keyof Declared]: string } : never;

async function callWith<S>(step: S, options: CallOptions, onPrint: (text: string) => void): Promise<ResultsOf<S>> {
  const { env, signal, onLog, ...given } = options;
  const how: StepCall = { env, signal, onLog, onPrint };
  return (await callStep(step as unknown as AnyStep, given as Record<string, CallValue>, how)) as unknown as ResultsOf<S>;
}

/** For steps whose product is text: it may be there although the step failed. */
async function printedBy<S, Options extends CallOptions>(
  step: S,
  options: Options & Only<Options, OwnNames<S>>,
): Promise<{ text: string; error?: unknown }> {
  let text = '';
  try {
    await callWith(step, options, (more) => {
      text += more;
    });
    return { text };
  } catch (error) {
    if (text === '' || !isModelferryError(error) || error.kind !== 'refused') throw error;
    return { text, error };
  }
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
