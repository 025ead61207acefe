import { makeModel } from './make.ts';
import { planModel } from './plan.ts';
import { bytesAfter, showPlan } from './show-plan.ts';
import type { Found } from './source.ts';
import { readSourceModel } from './source-model.ts';
import { type Given, type Quantization, quantizationOf } from './wanted.ts';
import type { Way, Work } from './work.ts';

/** Reads what was asked for. Throws `usage` with all that is wrong. */
export function quantizing(given: Given): Way {
  const derivation = quantizationOf(given);
  return { ...derivation, plan: (source) => quantizationWork(source, derivation) };
}

/** Reads a model's headers and plans its quantization. Throws as both do. */
async function quantizationWork(source: Found, derivation: Quantization): Promise<Work> {
  const { totalBytes } = source.manifest;
  const model = await readSourceModel(source.folder.files, source.manifest);
  const plan = planModel(model, derivation.wanted);
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
