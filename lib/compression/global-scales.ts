import type { FloatType } from '../quantization/floats.ts';
import { globalScaleOf } from '../quantization/scales.ts';
import { type Plan, type PlannedWeight, rowsOf } from './plan.ts';
import { largestInThread } from './rows.ts';
import type { Shard, SourceModel } from './source-model.ts';
import type { Workers } from './workers.ts';

/**
 * The one scale that NVFP4 has for all weights of a fused set. All of them are read before the first is quantized, also those in other files: the only
 * bytes that are read twice, mostly from the page cache.
 */
export class GlobalScales {
  readonly #plan: Plan;
  readonly #model: SourceModel;
  readonly #workers: Workers;
  readonly #known = new Map<string, number>();

  constructor(plan: Plan, model: SourceModel, workers: Workers) {
    this.#plan = plan;
    this.#model = model;
    this.#workers = workers;
  }

  /** 1 for a scheme that has none. */
  async of({ set, tensor }: PlannedWeight, signal: AbortSignal): Promise<number> {
    if (this.#plan.wanted.scheme.scale !== 'e4m3') return 1;
    const known = this.#known.get(set);
    if (known !== undefined) return known;
    let max = 0;
    for (const weight of this.#plan.sets.get(set) ?? []) max = Math.max(max, await this.#largestOf(weight, signal));
    const scale = globalScaleOf(max, tensor.dtype as FloatType);
    this.#known.set(set, scale);
    return scale;
  }

  async #largestOf(weight: PlannedWeight, signal: AbortSignal): Promise<number> {
    const { file } = weight.tensor;
    const shard = this.#model.shards.find(({ path }) => path === file) as Shard;
    const source = await this.#model.source.open(shard);
    const running: Promise<number>[] = [];
    let max = 0;
    const takeFirst = async () => {
      max = Math.max(max, (await running.shift()) ?? 0);
    };
    try {
      for (const { offset, length } of rowsOf(weight, this.#plan.wanted.scheme)) {
        signal.throwIfAborted();
        const bytes = this.#workers.buffers.take(length);
        await source.read(offset, Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length), signal);
        const found = largestInThread(bytes, weight, this.#workers);
        found.catch(() => {});
        running.push(found);
        if (running.length > this.#workers.count) await takeFirst();
      }
      while (running.length > 0) await takeFirst();
    } finally {
      await Promise.allSettled(running);
      await source.close();
    }
    return max;
  }
}
