import { open, readFile, rm, stat } from 'node:fs/promises';
import { checkOutput } from '../../lib/compression/check.ts';
import type { Derivation } from '../../lib/compression/derivation.ts';
import { GlobalScales } from '../../lib/compression/global-scales.ts';
import { derivedFrom } from '../../lib/compression/new-model.ts';
import { newFiles, type Plan } from '../../lib/compression/plan.ts';
import type { SourceModel } from '../../lib/compression/source-model.ts';
import { Workers } from '../../lib/compression/workers.ts';
import { writeReport } from '../../lib/compression/write-report.ts';
import { explain } from '../../lib/errors.ts';
import { sha256Of } from '../../lib/integrity.ts';
import { type ManifestFile, makeManifest, manifestBytes } from '../../lib/manifest.ts';
import { readHeader } from '../../lib/safetensors/header.ts';
import { indexName } from '../../lib/safetensors/weight-index.ts';
import { version } from '../../lib/version.ts';
import { checkFreeSpace, type ModelFolder, safeJoin, sourceOf, writeAtomically } from '../../lib/workspace.ts';
import { carryOver } from './carry-over.ts';
import { Records } from './records.ts';
import { type WrittenShard, writeShard } from './shard.ts';
import type { Found } from './source.ts';
import type { Made, Tools } from './work.ts';

/** Writes the model into its folder, the manifest last. What an ended run of the same plan has finished is kept. */
export async function makeModel(
  plan: Plan,
  model: SourceModel,
  { source, folder, derivation }: { source: Found; folder: ModelFolder; derivation: Derivation },
  tools: Tools,
): Promise<Made> {
  const derived = derivedFrom(derivation, source.bytes);
  // From here to the end the folder is not what a manifest says.
  await rm(folder.manifest, { force: true });
  const records = new Records<WrittenShard>(folder, sha256Of(JSON.stringify([version, derived])));
  await records.open();
  const shards = await writeShards(plan, model, folder, records, tools);
  const small = newFiles(plan, model);
  for (const [path, bytes] of small) await writeAtomically(safeJoin(folder.files, path), bytes);
  await carryOver(model.others, source.folder.files, folder.files, tools.signal);
  await checkOutput(plan, plan.ignore, await readFile(safeJoin(folder.files, indexName)), async (path) => {
    await using file = await open(safeJoin(folder.files, path), 'r');
    return await readHeader(file, path);
  });
  const files: ManifestFile[] = [
    ...shards,
    ...model.others,
    ...[...small].map(([path, bytes]) => ({ path, size: bytes.length, sha256: sha256Of(bytes) })),
  ];
  const { source: origin, selection } = source.manifest;
  const manifest = makeManifest({ source: origin, selection, files, derived });
  const bytes = manifestBytes(manifest);
  const said = await sourceOf(source.folder);
  if (said) await writeAtomically(folder.source, said);
  const errors = shards.map((shard) => shard.errors);
  await writeReport(folder.dir, plan, model, errors, source.manifest, manifest);
  await writeAtomically(folder.manifest, bytes);
  await rm(folder.partial, { recursive: true, force: true });
  return { manifest, bytes };
}

async function writeShards(
  plan: Plan,
  model: SourceModel,
  folder: ModelFolder,
  records: Records<WrittenShard>,
  tools: Tools,
): Promise<WrittenShard[]> {
  const { log, progress, signal } = tools;
  const done = new Map<string, WrittenShard>();
  for (const { shard } of plan.shards) {
    const record = await records.read(shard.path);
    const info = await stat(safeJoin(folder.files, shard.path)).catch(() => undefined);
    if (record && record.size === info?.size) done.set(shard.path, record);
  }
  const open = plan.shards.filter(({ shard }) => !done.has(shard.path));
  // The unfinished one of an ended run is of no use, and makes room.
  for (const { shard } of open) await rm(safeJoin(folder.partial, shard.path), { force: true });
  await checkFreeSpace(
    folder.dir,
    open.reduce((sum, { layout }) => sum + layout.size, 0),
  );
  if (done.size > 0) log.info({ shards: done.size, of: plan.shards.length }, 'shards of an ended run are there');
  progress.start(
    'compress',
    plan.shards.reduce((sum, { shard }) => sum + shard.size, 0),
  );
  for (const { shard } of plan.shards) if (done.has(shard.path)) progress.add(shard.size);
  const workers = new Workers();
  const scales = new GlobalScales(plan, model, workers);
  const common = { source: model.source, partialDir: folder.partial, filesDir: folder.files, workers, signal };
  try {
    for (const planned of open) {
      const { path } = planned.shard;
      try {
        const written = await writeShard(plan, planned, scales, { ...common, onBytes: (bytes) => progress.add(bytes) });
        await records.write(written);
        done.set(path, written);
        log.debug({ path, size: written.size, sha256: written.sha256 }, 'shard written');
      } catch (error) {
        throw explain(`compress ${path}`, error);
      }
    }
  } finally {
    progress.end();
    await workers.close();
  }
  return plan.shards.map(({ shard }) => done.get(shard.path) as WrittenShard);
}
