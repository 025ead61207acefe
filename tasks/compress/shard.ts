import { mkdir, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { GlobalScales } from '../../lib/compression/global-scales.ts';
import type { Plan, PlannedShard } from '../../lib/compression/plan.ts';
import { type ErrorsByModule, ShardRun, type ShardTools } from '../../lib/compression/shard-run.ts';
import type { SourceFiles } from '../../lib/compression/source-model.ts';
import { safeJoin } from '../../lib/workspace.ts';
import { OutputFile } from './output-file.ts';

/** A shard that lies where it belongs. */
export interface WrittenShard {
  path: string;
  /** Bytes. */
  size: number;
  sha256: string;
  errors: ErrorsByModule;
}

export interface WriteTools extends Pick<ShardTools, 'workers' | 'signal' | 'onBytes'> {
  source: SourceFiles;
  /** Where it is written, and where it goes when it is whole. */
  partialDir: string;
  filesDir: string;
}

/**
 * Writes one shard while its source is read once: both are hashed on the way, and it is renamed to its name only when the source's bytes were
 * those of the manifest. Throws as `ShardRun` does.
 */
export async function writeShard(plan: Plan, planned: PlannedShard, scales: GlobalScales, tools: WriteTools): Promise<WrittenShard> {
  const { shard, layout } = planned;
  const [partial, target] = [safeJoin(tools.partialDir, shard.path), safeJoin(tools.filesDir, shard.path)];
  await mkdir(dirname(partial), { recursive: true });
  await mkdir(dirname(target), { recursive: true });
  const source = await tools.source.open(shard);
  try {
    const output = await OutputFile.create(partial, layout.size);
    const run = new ShardRun(plan, planned, scales, { ...tools, source, hint: tools.source.hint, output });
    try {
      const errors = await run.all();
      const sha256 = await output.finish();
      await rename(partial, target);
      return { path: shard.path, size: layout.size, sha256, errors };
    } catch (error) {
      // Nothing of it may be read or written any more when the next try begins.
      await run.settle();
      await output.abandon();
      throw error;
    }
  } finally {
    await source.close();
  }
}
