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
