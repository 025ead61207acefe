import type { Derivation } from '../../lib/compression/derivation.ts';
import type { Log } from '../../lib/log.ts';
import type { Manifest } from '../../lib/manifest.ts';
import type { Progress } from '../../lib/progress.ts';
import type { ModelFolder } from '../../lib/workspace.ts';
import type { Found } from './source.ts';

export interface Tools {
  log: Log;
  progress: Progress;
  signal: AbortSignal;
}

export interface Made {
  manifest: Manifest;
  bytes: Buffer;
}

/** What there is to do, known before a weight is read. */
export interface Work {
  /** For the log. */
  counts: Record<string, number>;
  /** Files that the new model will not have. */
  dropped: readonly string[];
  /** What the new model will have; undefined where only the making tells. */
  files: number;
  bytes: number | undefined;
  /** As text for people, or as one line of JSON for machines. */
  show: (folder: string, forPeople: boolean) => string;
  /** Writes the model into its folder, the manifest last. */
  make: (folder: ModelFolder, tools: Tools) => Promise<Made>;
}

/** A way to make a smaller model, as it was asked for. */
export interface Way extends Derivation {
  /** Finds out what there is to do to a model. */
  plan: (source: Found, signal: AbortSignal) => Promise<Work>;
}
