import { dirname, join } from 'node:path';
import { defineStep } from '../../lib/define-step.ts';
import { sha256Of } from '../../lib/integrity.ts';
import { openFilesOf } from '../../lib/local/open-file.ts';
import { withLock } from '../../lib/lock.ts';
import { type Manifest, parseManifest } from '../../lib/manifest.ts';
import { identityOf } from '../../lib/naming.ts';
import { openStore } from '../../lib/open-store.ts';
import { schema } from '../../lib/params/declare.ts';
import {
  destinationParams,
  manifestParams,
  namingParams,
  networkParams,
  transferParams,
  waitParams,
  workspaceParams,
} from '../../lib/params/groups.ts';
import { publishResults } from '../../lib/params/results.ts';
import { isSkipped, resultsOf } from '../../lib/pass-on.ts';
import { checkContent, checkKnown } from '../../lib/policy/policy.ts';
import { archiveIn, planArchive, publishArchive } from '../../lib/publish/archive.ts';
import { contentOf } from '../../lib/publish/content.ts';
import { checkFolder, sourceOf, termsOf } from '../../lib/publish/from-workspace.ts';
import { cuttingOf } from '../../lib/publish/part-size.ts';
import { showPlan } from '../../lib/publish/plan.ts';
import { type PublishOutcome, planPublish, publish } from '../../lib/publish/publish.ts';
import { publishingOf } from '../../lib/publish/publishing.ts';
import { makeSender } from '../../lib/publish/send.ts';
import { Budget } from '../../lib/transfer/budget.ts';
import { BufferPool, bufferBytes } from '../../lib/transfer/buffers.ts';
import { findManifest, folderAt, readManifestFile, runIdOf, writeAtomically } from '../../lib/workspace.ts';

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
  async run(params, ctx) {
    const { workspace } = params;
    const path = await findManifest(workspace, params.manifest);
    const bytes = await readManifestFile(path);
    const manifest = parseManifest(bytes, path, params.manifestSha256);
    const folder = folderAt(dirname(path));
    const store = openStore(params, ctx);
    const { uri, ...publishing } = publishingOf(params, store, identityOf(manifest));
    const archive = archiveIn(manifest);
    const results = (
      published: Manifest,
      raw: Uint8Array,
      outcome: Pick<PublishOutcome, 'uploadedBytes' | 'copiedBytes' | 'unchanged'>,
    ) => ({
      ...resultsOf(workspace, path, published, raw),
      'model-uri': uri,
      'uploaded-bytes': String(outcome.uploadedBytes),
      'copied-bytes': String(outcome.copiedBytes),
      unchanged: String(outcome.unchanged),
      'model-ARTIFACT_URI': uri,
      'model-ARTIFACT_DIGEST': `sha256:${archiveIn(published)?.sha256 ?? sha256Of(raw)}`,
    });
    const mayServe = () => checkFolder({ ...manifest, folder, uri }, params, ctx.log);
    const nothing = { uploadedBytes: 0, copiedBytes: 0, unchanged: true };
    if (isSkipped('upload', params)) {
      ctx.log.info({ uri }, 'upload is skipped: passing the manifest on');
      return results(manifest, bytes, nothing);
    }
    const common = {
      log: ctx.log,
      signal: ctx.signal,
      content: contentOf(manifest),
      source: await sourceOf(folder),
      ...publishing,
    };
    const { files } = manifest;
    checkKnown(params, { license: termsOf(common.source).license, paths: files.map((file) => file.path) }, ctx.log);
    if (ctx.dryRun) {
      const facts = { source: manifest.source, terms: termsOf(common.source), cut: cuttingOf(params), limits: store.limits };
      const plan = await (archive ? planArchive(common) : planPublish(common));
      ctx.print(showPlan(uri, { ...plan, ...facts }, ctx.terminal));
      if (!plan.unchanged && !archive) await mayServe();
      return results(manifest, bytes, nothing);
    }
    const { waitTimeout } = params;
    const byPath = new Map(files.map((file) => [file.path, file]));
    const openFile = openFilesOf(folder.files);
    const open = (name: string) => openFile(byPath.get(name) as (typeof files)[number]);
    const inspect = async (signal: AbortSignal) => {
      await mayServe();
      await checkContent({ policy: params, files, open, concurrency: params.concurrency, signal, log: ctx.log });
    };
    return await withLock(folder.lock, { ...ctx, waitTimeout }, async (signal) => {
      const send = makeSender({
        store,
        open: (file) => openFile(archive ?? file),
        partSize: params.partSize,
        connections: new Budget(params.concurrency),
        // A disk gives more than one reader takes; a part read ahead is memory taken.
        sources: new Budget(2),
        buffers: new BufferPool(bufferBytes(params.maxMemory, params.concurrency)),
        progress: ctx.progress,
      });
      const runId = await runIdOf(folder);
      const options = { ...common, signal, progress: ctx.progress, runId, waitTimeout, send };
      const outcome = await (archive ? publishArchive(options) : publish({ ...options, inspect }));
      await writeAtomically(join(workspace, 'model_s3_uri'), uri);
      return results(outcome.manifest, outcome.bytes, outcome);
    });
  },
});
