import { StepError } from '../errors.ts';
import { disagreements } from '../quantization/ignore-list.ts';
import type { Header, StoredTensor } from '../safetensors/header.ts';
import { indexName, parseIndex } from '../safetensors/weight-index.ts';
import type { Plan } from './plan.ts';

/**
 * Reads the new model's index, headers and `ignore` as a server would, and holds them against the source: every tensor is accounted for, and the list names
 * exactly the modules that were left (a server loads a module that is neither quantized nor ignored without a word, and computes garbage). Throws `bug`.
 */
export async function checkOutput(
  plan: Plan,
  ignore: readonly string[],
  indexFile: Uint8Array,
  headerOf: (path: string) => Promise<Header>,
): Promise<void> {
  const found = new Map<string, StoredTensor>();
  const faults: string[] = [];
  const index = parseIndex(indexFile, indexName);
  for (const { shard } of plan.shards) {
    for (const tensor of (await headerOf(shard.path)).tensors) {
      if (found.has(tensor.name)) faults.push(`${tensor.name} is there twice`);
      found.set(tensor.name, tensor);
      if (index.get(tensor.name) !== shard.path) faults.push(`${indexName} does not give ${tensor.name} its file`);
    }
  }
  if (index.size !== found.size) faults.push(`${indexName} names ${index.size} tensors, there are ${found.size}`);
  faults.push(...missing(plan, found), ...disagreements(ignore, ...modulesIn(plan, found)));
  if (faults.length === 0) return;
  const shown = faults.slice(0, 5).join('; ');
  throw new StepError('bug', `failed to check the compressed model: ${shown}${faults.length > 5 ? ` and ${faults.length - 5} more` : ''}`);
}

/** Tensors of the source of which nothing came, and those that came from nowhere. */
function missing({ shards, selected }: Plan, found: ReadonlyMap<string, StoredTensor>): string[] {
  const faults: string[] = [];
  const unexplained = new Set(found.keys());
  const byTensor = Map.groupBy(selected.quantized.values(), ({ tensor }) => tensor.name);
  for (const tensor of shards.flatMap(({ shard }) => shard.tensors)) {
    const parts = byTensor.get(tensor.name);
    for (const { module } of parts ?? []) {
      const names = [...outputsFor(module, found)];
      if (!names.includes(`${module}.weight_scale`) || names.length < 2) faults.push(`${module} is not there`);
      for (const name of names) unexplained.delete(name);
    }
    if (parts !== undefined) continue;
    const same = found.get(tensor.name);
    if (same?.dtype !== tensor.dtype || same.shape.join() !== tensor.shape.join()) faults.push(`${tensor.name} is not there as it was`);
    unexplained.delete(tensor.name);
  }
  return [...faults, ...[...unexplained].map((name) => `${name} is of no tensor of the source`)];
}

const suffixes = ['weight', 'weight_packed', 'weight_scale', 'weight_zero_point', 'weight_global_scale', 'weight_shape'];

function outputsFor(module: string, found: ReadonlyMap<string, StoredTensor>): string[] {
  return suffixes.map((suffix) => `${module}.${suffix}`).filter((name) => found.has(name));
}

/** The modules that have scales, and those with a weight of two dimensions and more that have none. */
function modulesIn({ selected }: Plan, found: ReadonlyMap<string, StoredTensor>): [quantized: string[], left: string[]] {
  const moduleOf = (name: string) => name.slice(0, name.lastIndexOf('.'));
  const quantized = new Set([...found.keys()].filter((name) => name.endsWith('.weight_scale')).map(moduleOf));
  const whole = [...found.values()]
    .filter(({ name, shape }) => name.endsWith('.weight') && shape.length >= 2)
    .map(({ name }) => moduleOf(name));
  // Experts that share a tensor have no names of their own in the file.
  const parts = [...selected.left.keys()].filter((module) => !found.has(`${module}.weight`));
  return [[...quantized], [...whole.filter((module) => !quantized.has(module)), ...parts]];
}
