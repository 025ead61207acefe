import { lint as lintStep } from '../lint/step.ts';
import { verify as verifyStep } from '../verify/step.ts';
import { call, printedBy } from './call.ts';
import type { CallOptions, Duration, HubOptions, ModelOptions, SelectionOptions, StoreOptions, TransferOptions } from './options.ts';

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
