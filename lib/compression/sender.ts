import type { ManifestFile } from '../manifest.ts';
import type { Progress } from '../progress.ts';
import type { SendFile } from '../publish/publish.ts';
import { recordMade } from '../publish/recorded.ts';
import { type ByteSource, makeSender } from '../publish/send.ts';
import type { Store } from '../store.ts';
import { Budget } from '../transfer/budget.ts';
import { BufferPool } from '../transfer/buffers.ts';
import { GlobalScales } from './global-scales.ts';
import type { Shares } from './memory.ts';
import type { NewModel } from './new-model.ts';
import type { ErrorsByModule } from './shard-run.ts';
import { streamShard } from './shard-stream.ts';
import type { SourceFiles } from './source-model.ts';
import { Workers } from './workers.ts';

export interface MakingOptions {
  store: Store;
  /** Key of the record of what is stored. */
  storedKey: string;
  /** Opens a shard of the source to be read once, in order. */
  shards: SourceFiles;
  /** Opens a file that stays as it is. */
  open: (file: ManifestFile) => Promise<ByteSource>;
  shares: Shares;
  /** Connections to the store at once, and reads of files that stay as they are. */
  concurrency: number;
  reads: number;
  progress: Progress;
  /** Told when all of a shard is made, before its object is there. */
  onMade: (path: string, errors: ErrorsByModule) => Promise<void>;
}

/** Sends the files of a model of which the large ones are made meanwhile, one after the other. To be closed at the end. */
export function makingSender({ plan, model, small }: NewModel, options: MakingOptions): { send: SendFile; close: () => Promise<void> } {
  const { store, storedKey, shards, open, shares, concurrency, reads, progress, onMade } = options;
  const planned = new Map(plan.shards.map((each) => [each.shard.path, each]));
  const others = new Map(model.others.map((file) => [file.path, file]));
  // One shard takes all threads.
  const turns = new Budget(1);
  let threads: { workers: Workers; scales: GlobalScales } | undefined;
  const begin = () => {
    const workers = new Workers(shares.threads);
    return { workers, scales: new GlobalScales(plan, model, workers) };
  };
  const send = makeSender({
    store,
    open: async ({ path }, signal) => {
      const shard = planned.get(path);
      const bytes = small.get(path);
      if (shard === undefined) return bytes ? bytesSource(bytes) : await open(others.get(path) as ManifestFile);
      threads ??= begin();
      const turn = (ended: AbortSignal) => turns.take(1, ended);
      return await streamShard(plan, shard, { source: shards, ...threads, signal, turn, onMade: (errors) => onMade(path, errors) });
    },
    partSize: shares.part,
    connections: new Budget(concurrency),
    sources: new Budget(reads),
    buffers: new BufferPool(shares.buffers),
    progress,
    onHashed: recordMade(store, storedKey),
  });
  return { send, close: async () => await threads?.workers.close() };
}

function bytesSource(bytes: Buffer): ByteSource {
  return {
    async read(offset, into) {
      bytes.copy(into, 0, offset, offset + into.length);
    },
    close: async () => {},
  };
}
