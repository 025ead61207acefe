import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import type { CheckpointName } from '../fakes/model/checkpoints.ts';

export type Digest = [dtype: string, shape: number[], sha256: string];
export type Digests = Record<string, Digest>;
export interface Config {
  format: string;
  config_groups: Record<string, { weights: object; input_activations: object | null; targets: string[] }>;
}
interface Answer {
  error?: string;
  tensors?: Digests | string;
  differs_from_native?: Digests;
  quantization_config?: Config | string;
}

/** What README.md beside this file tells. */
export const golden = JSON.parse(gunzipSync(readFileSync(join(import.meta.dirname, 'quantization.json.gz'))).toString()) as {
  source: Record<CheckpointName, Digests>;
  reference: Record<string, Answer>;
};

/** The reference's answer in full: what it repeats it only names. */
export function expected(key: string): Digests {
  const native = key.replace(/\.f32$/, '');
  const { tensors = {} } = golden.reference[native]!;
  const base = typeof tensors === 'string' ? expected(tensors.replace(/^as /, '')) : tensors;
  return { ...base, ...golden.reference[key]!.differs_from_native };
}
