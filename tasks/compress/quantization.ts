import { type Plan, planModel } from '../../lib/compression/plan.ts';
import { readSourceModel, type SourceModel } from '../../lib/compression/source-model.ts';
import { type Given, type Quantization, quantizationOf } from '../../lib/compression/wanted.ts';
import { openFilesOf } from '../../lib/local/open-file.ts';
import { makeModel } from './make.ts';
import { bytesAfter, showPlan } from './show-plan.ts';
import type { Found } from './source.ts';
import type { Way, Work } from './work.ts';

/** Reads what was asked for. Throws `usage` with all that is wrong. */
export function quantizing(given: Given): Way {
  const derivation = quantizationOf(given);
  return { ...derivation, plan: (source, signal) => quantizationWork(source, derivation, signal) };
}

/** Reads a model's headers and plans its quantization. Throws as both do. */
export async function planOf(source: Found, { wanted }: Quantization, signal: AbortSignal): Promise<{ plan: Plan; model: SourceModel }> {
  const files = { open: openFilesOf(source.folder.files), hint: 'run download again with --verify, with the same --workspace' };
  const model = await readSourceModel(files, source.manifest, signal);
  return { plan: planModel(model, wanted), model };
}

async function quantizationWork(source: Found, derivation: Quantization, signal: AbortSignal): Promise<Work> {
  const { totalBytes } = source.manifest;
  const { plan, model } = await planOf(source, derivation, signal);
  const { quantized, left } = plan.selected;
  return {
    counts: { quantized: quantized.size, left: left.size },
    dropped: model.dropped,
    files: model.shards.length + model.others.length + 2,
    bytes: bytesAfter(plan, model),
    show: (folder, forPeople) => showPlan(plan, model, { method: derivation.method, folder, totalBytes }, forPeople),
    make: (folder, tools) => makeModel(plan, model, { source, folder, derivation }, tools),
  };
}
