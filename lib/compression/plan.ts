import { StepError } from '../errors.ts';
import type { FloatType } from '../quantization/floats.ts';
import { fusedSetOf } from '../quantization/fused.ts';
import { ignoreList } from '../quantization/ignore-list.ts';
import type { Arithmetic } from '../quantization/kernel.ts';
import { type Output, outputsOf } from '../quantization/outputs.ts';
import type { Pattern } from '../quantization/patterns.ts';
import { quantizationConfig, rowBlock, type Scheme } from '../quantization/schemes.ts';
import { alwaysIgnored, type Selected, select, standing } from '../quantization/select.ts';
import { type ModelTensor, type Weight, weightsOf } from '../quantization/weights.ts';
import type { StoredTensor } from '../safetensors/header.ts';
import { type Layout, layOut, type NewTensor } from '../safetensors/layout.ts';
import { indexBytes, indexName } from '../safetensors/weight-index.ts';
import { withQuantization } from './config-json.ts';
import { configName, type Shard, type SourceModel } from './source-model.ts';

/** What the user wants done. */
export interface Wanted {
  scheme: Scheme;
  arithmetic: Arithmetic;
  ignore: readonly Pattern[];
  targets: readonly Pattern[];
}

/** A tensor of the source in the order of its bytes, and what becomes of it. */
export type Work = { tensor: ModelTensor; copyTo: StoredTensor } | { tensor: ModelTensor; weights: PlannedWeight[] };

export interface PlannedWeight extends Weight {
  shape: readonly [number, number];
  /** Names the set that shares one global scale. */
  set: string;
  outputs: PlannedOutput[];
}

export interface PlannedOutput extends Output {
  /** First byte in the new file. */
  offset: number;
}

export interface PlannedShard {
  shard: Shard;
  layout: Layout;
  work: Work[];
}

export interface Plan {
  wanted: Wanted;
  selected: Selected;
  ignore: string[];
  shards: PlannedShard[];
  /** Sets of weights with one global scale, wherever their members lie. */
  sets: ReadonlyMap<string, PlannedWeight[]>;
  /** Which file will hold each tensor. */
  weightMap: Map<string, string>;
  /** Bytes of all tensors to be written. */
  tensorBytes: number;
}

/** Rows that are quantized together are held whole: those of a weight that would need more are left as they are. */
export const maxBlockBytes = 16 * 1024 ** 2;

/** Lays the new model out from the headers of the old one, before any value is read. Throws `refused` when nothing would become smaller. */
export function planModel(model: SourceModel, wanted: Wanted): Plan {
  const { scheme, ignore, targets } = wanted;
  const { facts } = model;
  checkTargets(model, targets);
  const tensors = model.shards.flatMap((shard) => shard.tensors);
  const weights = weightsOf(tensors, facts, (module) => ignore.some(({ matches }) => matches(module)));
  const selected = select(weights, scheme, { ignore, targets, maxBlockBytes }, facts);
  if (selected.quantized.size === 0) {
    const first = [...selected.left].find(([, reason]) => !reason.startsWith(standing)) ?? [...selected.left][0];
    throw new StepError('refused', 'failed to compress the model: none of its weights is a linear layer that the method is for', {
      hint: first ? `${first[0]}: ${first[1]}` : 'it has no weights of two dimensions',
    });
  }
  const byTensor = Map.groupBy(selected.quantized.values(), ({ tensor }) => tensor.name);
  const shards = model.shards.map((shard) => planShard(shard, byTensor, wanted));
  const all = shards.flatMap(({ work }) => work.flatMap((each) => ('weights' in each ? each.weights : [])));
  return {
    wanted,
    selected,
    ignore: ignoreList([...selected.quantized.keys()], [...selected.left.keys()], [...alwaysIgnored(scheme), ...ignore]),
    shards,
    sets: Map.groupBy(all, ({ set }) => set),
    weightMap: new Map(shards.flatMap(({ shard, layout }) => layout.tensors.map(({ name }) => [name, shard.path]))),
    tensorBytes: shards.reduce((sum, { layout }) => sum + layout.dataBytes, 0),
  };
}

/** A target that names nothing is a mistake; an ignored module that is not there is none: lists are shared between models. */
function checkTargets({ shards }: SourceModel, targets: readonly Pattern[]): void {
  const modules = shards.flatMap(({ tensors }) => tensors.map(({ name }) => name.replace(/\.weight$/, '')));
  const none = targets.filter(({ entry, matches }) => entry !== 'Linear' && !modules.some(matches)).map(({ entry }) => entry);
  if (none.length > 0) {
    throw new StepError('usage', `failed to read --targets: no module of the model is meant by ${none.join(', ')}`, {
      hint: 'a target is Linear, a whole module name, or re: and a pattern',
    });
  }
}

function planShard(shard: Shard, byTensor: ReadonlyMap<string, Weight[]>, { scheme }: Wanted): PlannedShard {
  const drafts = shard.tensors.map((tensor) => ({
    tensor,
    weights: (byTensor.get(tensor.name) ?? []).map((weight) => {
      const shape = weight.shape as readonly [number, number];
      return {
        ...weight,
        shape,
        set: fusedSetOf(weight.module),
        outputs: outputsOf(scheme, weight.module, shape, tensor.dtype as FloatType),
      };
    }),
  }));
  const news = drafts.flatMap(({ tensor, weights }): NewTensor[] =>
    weights.length > 0 ? weights.flatMap(({ outputs }) => outputs) : [tensor],
  );
  checkNames(news, shard.path);
  const layout = layOut(news, shard.header.metadata);
  const places = new Map(layout.tensors.map((tensor) => [tensor.name, tensor]));
  const placeOf = (name: string) => places.get(name) as StoredTensor;
  const work = drafts.map(({ tensor, weights }): Work => {
    if (weights.length === 0) return { tensor, copyTo: placeOf(tensor.name) };
    const placed = weights.map((weight) => ({
      ...weight,
      outputs: weight.outputs.map((output) => ({ ...output, offset: placeOf(output.name).offset })),
    }));
    return { tensor, weights: placed };
  });
  return { shard, layout, work };
}

function checkNames(tensors: readonly { name: string }[], path: string): void {
  const seen = new Set<string>();
  for (const { name } of tensors) {
    if (seen.has(name)) throw new StepError('refused', `failed to compress ${path}: it has a tensor ${name} already`);
    seen.add(name);
  }
}

/** The files that are written anew besides the shards, by path. */
export function newFiles({ wanted, ignore, weightMap, tensorBytes }: Plan, { config }: SourceModel): Map<string, Buffer> {
  return new Map([
    [configName, withQuantization(config, quantizationConfig(wanted.scheme, ignore))],
    [indexName, indexBytes(weightMap, tensorBytes)],
  ]);
}

/** Rows that are quantized at once; errors are summed over the first `measured` of them. */
export interface Rows {
  weight: PlannedWeight;
  first: number;
  count: number;
  measured: number;
}

/** A piece of a source file that is read at once. */
export interface Piece {
  offset: number;
  length: number;
  /** Where it is copied to; undefined: it is quantized. */
  copyTo?: number;
  rows?: Rows;
}

/** How much is read at once, where rows are not longer: so little that it is still in the caches when it is hashed and quantized. */
export const pieceBytes = 1024 ** 2;

/** Errors are summed over one of so many rows of a weight over `sampleBytes`: it costs several times as much as quantizing, and rows differ by little. */
export const measuredPart = 32;
const sampleBytes = 4 * 1024 ** 2;

/** All of a shard's bytes behind its header, in their order. */
export function* piecesOf({ work }: PlannedShard, scheme: Scheme): Generator<Piece> {
  for (const each of work) {
    if ('copyTo' in each) {
      const { offset, size } = each.tensor;
      for (let done = 0; done < size; done += pieceBytes) {
        yield { offset: offset + done, length: Math.min(pieceBytes, size - done), copyTo: each.copyTo.offset + done };
      }
    } else for (const weight of each.weights) yield* rowsOf(weight, scheme);
  }
}

/** A weight's rows, as many at once as are read at once. What is measured does not hang on how many these are. */
export function* rowsOf(weight: PlannedWeight, scheme: Scheme): Generator<Piece & { rows: Rows }> {
  const [rows] = weight.shape;
  const rowBytes = weight.size / rows;
  const together = rowBlock(scheme);
  const stepOf = (bytes: number) => Math.max(1, Math.floor(bytes / (rowBytes * together))) * together;
  const [sample, step] = [stepOf(sampleBytes), stepOf(pieceBytes)];
  for (let start = 0; start < rows; start += sample) {
    const end = Math.min(start + sample, rows);
    const sampled = rows <= sample ? rows : Math.ceil((end - start) / measuredPart / together) * together;
    for (let first = start; first < end; first += step) {
      const count = Math.min(step, end - first);
      const measured = Math.min(Math.max(start + sampled - first, 0), count);
      yield { offset: weight.offset + first * rowBytes, length: count * rowBytes, rows: { weight, first, count, measured } };
    }
  }
}
