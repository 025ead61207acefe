import { explain } from '../errors.ts';
import type { ByteSource } from '../publish/send.ts';
import type { GlobalScales } from './global-scales.ts';
import { InOrder } from './in-order.ts';
import type { Plan, PlannedShard } from './plan.ts';
import { type ErrorsByModule, ShardRun } from './shard-run.ts';
import type { SourceFiles } from './source-model.ts';
import type { Workers } from './workers.ts';

export interface StreamTools {
  source: SourceFiles;
  scales: GlobalScales;
  workers: Workers;
  signal: AbortSignal;
  /** Waits for this shard's turn. Returns what ends it, once all its bytes are made. */
  turn: (signal: AbortSignal) => Promise<() => void>;
  /** Told once all is made and the source's bytes were right. */
  onMade: (errors: ErrorsByModule) => Promise<void>;
}

/**
 * A shard as a source of bytes, made while it is read: no byte of it lies on a disk. The read of its last bytes ends well only when the source's bytes
 * were those of the manifest. Throws as `ShardRun` does. Its turn is waited for here, before a sender lends buffers to it.
 */
export async function streamShard(plan: Plan, planned: PlannedShard, tools: StreamTools): Promise<ByteSource> {
  return new Making(plan, planned, tools, await tools.turn(tools.signal));
}

/** It begins with the first read. */
class Making implements ByteSource {
  readonly #plan: Plan;
  readonly #planned: PlannedShard;
  readonly #tools: StreamTools;
  readonly #leave: () => void;
  readonly #output: InOrder;
  readonly #ended = new AbortController();
  #work: Promise<void> | undefined;

  constructor(plan: Plan, planned: PlannedShard, tools: StreamTools, leave: () => void) {
    this.#plan = plan;
    this.#planned = planned;
    this.#tools = tools;
    this.#leave = leave;
    this.#output = new InOrder(planned.layout.size);
  }

  async read(offset: number, into: Buffer, signal: AbortSignal): Promise<void> {
    const onAbort = () => this.#end(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      signal.throwIfAborted();
      const filled = this.#output.read(offset, into);
      this.#work ??= this.#make();
      await filled;
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** Waits until nothing of it runs any more. */
  async close(): Promise<void> {
    this.#end(new Error('it is not wanted any more'));
    await this.#work;
    this.#leave();
  }

  #end(reason: unknown): void {
    this.#output.fail(reason);
    this.#ended.abort(reason);
  }

  /** Never rejects: who reads is told. */
  async #make(): Promise<void> {
    const { source: files, workers, scales, onMade } = this.#tools;
    const { shard } = this.#planned;
    const signal = AbortSignal.any([this.#tools.signal, this.#ended.signal]);
    try {
      const source = await files.open(shard);
      try {
        const tools = { source, hint: files.hint, output: this.#output, workers, signal, onBytes: () => {} };
        const run = new ShardRun(this.#plan, this.#planned, scales, tools);
        const errors = await run.all().finally(() => run.settle());
        await onMade(errors);
        this.#output.end();
      } finally {
        await source.close();
      }
    } catch (error) {
      this.#output.fail(explain(`compress ${shard.path}`, error));
    } finally {
      this.#leave();
    }
  }
}
