import { utimes } from 'node:fs/promises';
import { defineStep } from '../../lib/define-step.ts';
import { hubOf } from '../../lib/hub/connection.ts';
import { listFiles } from '../../lib/hub/list.ts';
import { RemoteFile } from '../../lib/hub/remote-file.ts';
import { resolveRevision } from '../../lib/hub/resolve.ts';
import { sourceRecord } from '../../lib/hub/source-record.ts';
import type { Expected } from '../../lib/integrity.ts';
import { bytesToMove } from '../../lib/local/bring.ts';
import { bringModel } from '../../lib/local/bring-model.ts';
import { localFiles } from '../../lib/local/files.ts';
import { withLock } from '../../lib/lock.ts';
import { makeManifest, manifestBytes } from '../../lib/manifest.ts';
import { schema } from '../../lib/params/declare.ts';
import { hubParams } from '../../lib/params/groups/hub.ts';
import { modelParams, pinParams, selectionParams } from '../../lib/params/groups/model.ts';
import { policyParams } from '../../lib/params/groups/policy.ts';
import { waitParams } from '../../lib/params/groups/runs.ts';
import { networkParams, transferParams } from '../../lib/params/groups/transfer.ts';
import { verifyParams, workspaceParams } from '../../lib/params/groups/workspace.ts';
import { manifestResults } from '../../lib/params/results.ts';
import { isSkipped, passOn, resultsOf } from '../../lib/pass-on.ts';
import { checkPaths } from '../../lib/paths.ts';
import { checkKnown } from '../../lib/policy/policy.ts';
import { selectFiles } from '../../lib/selection.ts';
import { manifestResult, modelFolder, writeAtomically } from '../../lib/workspace.ts';
import { finishedManifest } from './finished.ts';
import { showPlan } from './plan.ts';

export const download = defineStep({
  name: 'download',
  summary: 'Brings a model from the Hub into the workspace, pinned to a commit and verified.',
  params: schema(
    {
      ...modelParams,
      ...pinParams,
      ...selectionParams,
      ...policyParams,
      ...hubParams,
      ...workspaceParams,
      ...verifyParams,
      ...waitParams,
      ...transferParams,
      ...networkParams,
    },
    ['modelId'],
  ),
  results: manifestResults,
  async run(params, ctx) {
    const { modelId, workspace, revision, pinnedCommit, allowPatterns, ignorePatterns, profile } = params;
    const { log, progress } = ctx;
    if (isSkipped('download', params)) {
      log.info({ model: modelId }, 'download is skipped: passing the manifest on');
      return await passOn({ workspace, modelId });
    }
    const hub = hubOf(params, ctx);
    const info = await resolveRevision(hub, modelId, pinnedCommit ?? revision);
    const { commit } = info;
    const selection = { allowPatterns, ignorePatterns, profile };
    const folder = modelFolder(workspace, modelId, commit, selection);

    const listed = async () => {
      const files = selectFiles(await listFiles(hub, modelId, commit), selection);
      const paths = files.map(({ path }) => path);
      checkPaths(paths);
      checkKnown(params, { license: info.license, paths }, log);
      return { files, paths, totalBytes: files.reduce((sum, { size }) => sum + size, 0) };
    };

    if (ctx.dryRun) {
      const { files, paths, totalBytes } = await listed();
      const [whole, begun] = [await localFiles(folder.files, paths, false), await localFiles(folder.partial, paths, false)];
      const missing = files.map((file) => {
        const isThere = whole.get(file.path) === file.size;
        return { ...file, missing: isThere ? undefined : bytesToMove([file], { whole, begun }) };
      });
      const { partSize } = params;
      ctx.print(showPlan({ model: modelId, revision, info, folder: folder.dir, files: missing, partSize }, ctx.terminal));
      const counts = { 'file-count': String(files.length), 'total-bytes': String(totalBytes) };
      return { manifest: manifestResult(workspace, folder), 'manifest-sha256': '', commit, ...counts };
    }

    return await withLock(folder.lock, { log, signal: ctx.signal, waitTimeout: params.waitTimeout, keep: workspace }, async (signal) => {
      const source = { repo: modelId, commit };
      const finished = await finishedManifest(folder, { source, selection, verify: params.verify }, { log, progress, signal });
      if (finished) {
        // The newest manifest is the one that the next step takes.
        await utimes(folder.manifest, new Date(), new Date());
        log.info({ model: modelId, commit, files: finished.manifest.files.length }, 'nothing to do: it is there');
        return resultsOf(workspace, folder.manifest, finished.manifest, finished.bytes);
      }
      const { files, totalBytes } = await listed();
      log.info({ model: modelId, revision, commit, files: files.length, bytes: totalBytes }, 'download started');
      const startedAt = Date.now();
      const { concurrency, partSize, maxMemory } = params;
      const open = (file: Expected) => new RemoteFile({ ...hub, signal }, modelId, commit, file);
      const brought = await bringModel(files, { open, folder, log, progress, signal, concurrency, partSize, maxMemory });
      const manifest = makeManifest({ source, selection, files: brought.files });
      const bytes = manifestBytes(manifest);
      await writeAtomically(folder.source, sourceRecord(hub, modelId, revision, info));
      await writeAtomically(folder.manifest, bytes);
      log.info({ model: modelId, commit, files: files.length, bytes: totalBytes, ms: Date.now() - startedAt }, 'download done');
      return resultsOf(workspace, folder.manifest, manifest, bytes);
    });
  },
});
