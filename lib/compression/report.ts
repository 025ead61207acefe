import type { Manifest } from '../manifest.ts';
import type { Plan } from './plan.ts';
import type { ErrorsByModule } from './shard-run.ts';
import type { SourceModel } from './source-model.ts';

/** What became of one weight, or of several together. */
export interface Change {
  /** Bytes of its tensors. */
  bytesBefore: number;
  bytesAfter: number;
  /** |weights - what their codes stand for| / |weights|, as Euclidean norms, in tensors over 4 MiB of one row of `measuredPart`; 0 where all are zero. */
  relativeError: number;
}

export interface ModuleChange extends Change {
  module: string;
  shape: readonly number[];
  dtype: string;
}

/** Equal runs give equal reports: no times, no paths of this machine. */
export interface Report {
  schemaVersion: 1;
  model: string;
  commit: string;
  method: string;
  config: Record<string, unknown>;
  /** Bytes of all files. */
  bytesBefore: number;
  bytesAfter: number;
  /** Over all quantized weights. */
  relativeError: number;
  /** Numbered layers, in order. */
  layers: (Change & { layer: string })[];
  /** By the last part of their names, all layers together. */
  kinds: (Change & { kind: string; modules: number })[];
  /** By layer and kind: experts of a layer are one. */
  cells: { layer: string; kind: string; relativeError: number }[];
  modules: ModuleChange[];
  /** Modules that stayed as they are. */
  left: { module: string; reason: string }[];
  /** As it stands in config.json. */
  ignore: string[];
  /** Weights in other formats, which the new model does not have. */
  notKept: string[];
}

interface Summed extends ModuleChange {
  error: number;
  signal: number;
}

/** Says what a run did to the model, from sums that were made on the way. */
export function reportOf(plan: Plan, model: SourceModel, errors: readonly ErrorsByModule[], before: Manifest, after: Manifest): Report {
  const sums = new Map(errors.flat());
  const planned = plan.shards.flatMap(({ work }) => work.flatMap((each) => ('weights' in each ? each.weights : [])));
  const all = planned.map((weight): Summed => {
    const { error, signal } = sums.get(weight.module) ?? { error: 0, signal: 0 };
    const bytesAfter = weight.outputs.reduce((sum, { bytes }) => sum + bytes, 0);
    const { module, shape, size: bytesBefore, tensor } = weight;
    return { module, shape, dtype: tensor.dtype, bytesBefore, bytesAfter, relativeError: relative({ error, signal }), error, signal };
  });
  const byLayer = Map.groupBy(all, ({ module }) => layerOf(module));
  const byKind = Map.groupBy(all, ({ module }) => kindOf(module));
  return {
    schemaVersion: 1,
    model: before.source.repo,
    commit: before.source.commit,
    method: after.derived?.method ?? 'none',
    config: after.derived?.config ?? {},
    bytesBefore: before.totalBytes,
    bytesAfter: after.totalBytes,
    relativeError: together(all).relativeError,
    layers: [...byLayer].map(([layer, modules]) => ({ layer, ...together(modules) })).sort((a, b) => compareLayers(a.layer, b.layer)),
    kinds: [...byKind].map(([kind, modules]) => ({ kind, modules: modules.length, ...together(modules) })),
    cells: [...byLayer].flatMap(([layer, modules]) =>
      [...Map.groupBy(modules, ({ module }) => kindOf(module))].map(([kind, some]) => ({
        layer,
        kind,
        relativeError: together(some).relativeError,
      })),
    ),
    modules: all.map(({ error: _, signal: __, ...change }) => change),
    left: [...plan.selected.left].map(([module, reason]) => ({ module, reason })),
    ignore: plan.ignore,
    notKept: model.dropped,
  };
}

/** The module's name up to its first number: `model.layers.12`; all of it where there is none. */
function layerOf(module: string): string {
  return /^.*?\.\d+(?=\.)/.exec(module)?.[0] ?? module;
}

function kindOf(module: string): string {
  const parts = module.split('.').filter((part) => !/^\d+$/.test(part));
  const kind = parts.at(-1) ?? module;
  return parts.includes('experts') ? `experts.${kind}` : kind;
}

function compareLayers(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true });
}

function together(changes: readonly Summed[]): Change {
  const sum = (pick: (change: Summed) => number) => changes.reduce((total, change) => total + pick(change), 0);
  const [error, signal] = [sum((change) => change.error), sum((change) => change.signal)];
  return {
    bytesBefore: sum((change) => change.bytesBefore),
    bytesAfter: sum((change) => change.bytesAfter),
    relativeError: relative({ error, signal }),
  };
}

/** Five digits say all that there is to say, and do not hang on the order in which threads ended. */
function relative({ error, signal }: { error: number; signal: number }): number {
  return signal === 0 ? 0 : Number(Math.sqrt(error / signal).toPrecision(5));
}
