import type { Expected } from '../integrity.ts';
import type { Log } from '../log.ts';
import type { Progress } from '../progress.ts';
import type { Store } from '../store.ts';
import type { ClaimTiming } from './claim-options.ts';
import type { Content } from './content.ts';
import type { Brought } from './inventory.ts';
import type { Uploads } from './uploads.ts';

export interface PublishOptions {
  store: Store;
  log: Log;
  signal: AbortSignal;
  progress: Progress;
  content: Content;
  /** What else the Hub says, kept beside the manifest; undefined when it is not known. */
  source: Uint8Array | undefined;
  /** The model's place, without slashes around it. */
  prefix: string;
  controlPrefix: string;
  /** What the prefixes of all versions of this model begin with; undefined when nothing tells versions apart. */
  versionsPrefix: string | undefined;
  /** Prefixes to look at first for files to copy, as prefixesToCopyFrom gives them. */
  copyFrom?: readonly string[];
  /** Same for every try of one run. */
  runId: string;
  replace: boolean;
  rayHash: boolean;
  /** ms */
  waitTimeout: number;
  concurrency: number;
  /** Looks into the files before the first is brought; what it throws ends all. */
  inspect?: ((signal: AbortSignal) => Promise<void>) | undefined;
  claimTiming?: ClaimTiming | undefined;
  /** Sends one file to `key`; its sha256 is checked before the object is there. */
  send: SendFile;
}

export type SendFile = (file: Expected, key: string, uploads: Uploads, signal: AbortSignal) => Promise<Brought>;
