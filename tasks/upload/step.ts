import { dirname, join } from 'node:path';
import { defineStep } from '../../lib/define-step.ts';
import { openFilesOf } from '../../lib/local/open-file.ts';
import { withLock } from '../../lib/lock.ts';
import { parseManifest } from '../../lib/manifest.ts';
import { identityOf } from '../../lib/naming.ts';
import { openStore } from '../../lib/open-store.ts';
import { schema } from '../../lib/params/declare.ts';
import { namingParams } from '../../lib/params/groups/model.ts';
import { destinationParams } from '../../lib/params/groups/publishing.ts';
import { waitParams } from '../../lib/params/groups/runs.ts';
import { networkParams, transferParams } from '../../lib/params/groups/transfer.ts';
import { manifestParams, workspaceParams } from '../../lib/params/groups/workspace.ts';
import { publishResults } from '../../lib/params/results.ts';
import { isSkipped, resultsOf } from '../../lib/pass-on.ts';
import { archiveIn, planArchive, publishArchive } from '../../lib/publish/archive.ts';
import { contentOf } from '../../lib/publish/content.ts';
import { checkFolder, checkTerms, folderSender, inspectFolder, termsOf } from '../../lib/publish/from-workspace.ts';
import { cuttingOf } from '../../lib/publish/part-size.ts';
import { showPlan } from '../../lib/publish/plan.ts';
import { type PublishOutcome, planPublish, publish } from '../../lib/publish/publish.ts';
import { publishingOf } from '../../lib/publish/publishing.ts';
import { withOutcome } from '../../lib/publish/results.ts';
import { storeFaults } from '../../lib/s3-settings.ts';
import { findManifest, folderAt, readManifestFile, runIdOf, sourceOf, writeAtomically } from '../../lib/workspace.ts';

export const upload = defineStep({
  name: 'upload',
  summary: 'Publishes the workspace model in the store: whole and verified, or not at all.',
  params: schema({
    ...workspaceParams,
    ...manifestParams,
    ...namingParams,
    ...destinationParams,
    ...waitParams,
    ...transferParams,
    ...networkParams,
  }),
  results: publishResults,
  faults: storeFaults,
  async run(params, ctx) {
    const { workspace } = params;
    const path = await findManifest(workspace, params.manifest);
    const bytes = await readManifestFile(path);
    const manifest = parseManifest(bytes, path, params.manifestSha256);
    const folder = folderAt(dirname(path));
    const store = openStore(params, ctx);
    const { uri, ...publishing } = publishingOf(params, store, identityOf(manifest));
    const archive = archiveIn(manifest);
    const results = (outcome: PublishOutcome) => withOutcome(resultsOf(workspace, path, outcome.manifest, outcome.bytes), outcome, uri);
    const candidate = { ...manifest, folder, uri };
    const nothing = { manifest, bytes, uploadedBytes: 0, copiedBytes: 0, unchanged: true };
    if (isSkipped('upload', params)) {
      ctx.log.info({ uri }, 'upload is skipped: passing the manifest on');
      return results(nothing);
    }
    const common = {
      log: ctx.log,
      signal: ctx.signal,
      content: contentOf(manifest),
      source: await sourceOf(folder),
      ...publishing,
    };
    const { files } = manifest;
    checkTerms({ files, source: common.source }, params, ctx.log);
    if (ctx.dryRun) {
      const facts = { source: manifest.source, terms: termsOf(common.source), cut: cuttingOf(params), limits: store.limits };
      const plan = await (archive ? planArchive(common) : planPublish(common));
      ctx.print(showPlan(uri, { ...plan, ...facts }, ctx.terminal));
      if (!plan.unchanged && !archive) await checkFolder(candidate, params, ctx.log);
      return results(nothing);
    }
    const { waitTimeout } = params;
    const openFile = openFilesOf(folder.files);
    const inspect = (signal: AbortSignal) => inspectFolder(candidate, files, params, { signal, log: ctx.log });
    return await withLock(folder.lock, { ...ctx, waitTimeout }, async (signal) => {
      const send = folderSender({ store, open: (file) => openFile(archive ?? file), progress: ctx.progress }, params);
      const runId = await runIdOf(folder);
      const options = { ...common, signal, progress: ctx.progress, runId, waitTimeout, send };
      const outcome = await (archive ? publishArchive(options) : publish({ ...options, inspect }));
      await writeAtomically(join(workspace, 'model_s3_uri'), uri);
      return results(outcome);
    });
  },
});
