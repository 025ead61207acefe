import { join } from 'node:path';
import { defineStep, type StepContext } from '../../lib/define-step.ts';
import { oneLine, StepError } from '../../lib/errors.ts';
import { hubOf } from '../../lib/hub/connection.ts';
import { lintHub } from '../../lib/hub/lint.ts';
import { listFiles } from '../../lib/hub/list.ts';
import { resolveRevision } from '../../lib/hub/resolve.ts';
import { lintModel } from '../../lib/lint/lint.ts';
import { lintFolder } from '../../lib/lint/local.ts';
import type { Finding } from '../../lib/lint/model.ts';
import { parseManifest } from '../../lib/manifest.ts';
import { chosenSource, namesStore, withBucketOfUri } from '../../lib/model-uri.ts';
import { openStore } from '../../lib/open-store.ts';
import { schema, type ValuesOf } from '../../lib/params/declare.ts';
import { existingParams, sourceParams } from '../../lib/params/groups/existing.ts';
import { hubParams } from '../../lib/params/groups/hub.ts';
import { modelParams, namingParams, selectionParams } from '../../lib/params/groups/model.ts';
import { s3Params, storeDirParams } from '../../lib/params/groups/store.ts';
import { networkParams, transferParams } from '../../lib/params/groups/transfer.ts';
import { manifestParams } from '../../lib/params/groups/workspace.ts';
import { findAsked, notPublished } from '../../lib/publish/asked.ts';
import { selectFiles } from '../../lib/selection.ts';
import { findManifest, folderAt, folderInside, readManifestFile } from '../../lib/workspace.ts';

const params = schema({
  ...sourceParams,
  ...modelParams,
  ...namingParams,
  ...existingParams,
  ...manifestParams,
  ...selectionParams,
  ...hubParams,
  ...s3Params,
  ...storeDirParams,
  ...transferParams,
  ...networkParams,
});
type LintParams = ValuesOf<typeof params>;

export const lint = defineStep({
  name: 'lint',
  summary: 'Tells whether a model will serve, from its file list and small files alone: on the Hub, in the store or here.',
  product: 'text',
  params,
  results: { errors: 'Number of errors; with any the exit code is 7.', warnings: 'Number of warnings.' },
  async run(params, ctx) {
    const { modelUri, modelDir } = params;
    const named = (modelUri ?? params.modelId ?? params.modelName) !== undefined;
    const source = chosenSource(params.source, ['both'], namesStore(params) && named && modelDir === undefined);
    const findings = await { hub: lintOnHub, s3: lintInStore, local: lintHere }[source](params, ctx);
    ctx.print(ctx.terminal ? forPeople(findings) : `${JSON.stringify(findings)}\n`);
    const errors = findings.filter(({ severity }) => severity === 'error');
    if (errors.length > 0) {
      throw new StepError('refused', `failed to lint: ${errors.map(({ text }) => text).join('; ')}`, {
        hint: '--profile on download, sync and import leaves out what a server does not need',
      });
    }
    return { errors: '0', warnings: String(findings.length) };
  },
});

async function lintHere({ modelDir, workspace, manifest: named, manifestSha256, modelId, profile }: LintParams): Promise<Finding[]> {
  const path = modelDir === undefined ? await findManifest(workspace, named, modelId) : folderInside(modelDir).manifest;
  const manifest = parseManifest(await readManifestFile(path), path, manifestSha256);
  return await lintFolder(modelDir ?? folderAt(join(path, '..')).files, manifest.files, profile);
}

async function lintInStore(params: LintParams, ctx: StepContext): Promise<Finding[]> {
  const store = openStore(withBucketOfUri(params), ctx);
  const found = await findAsked(store, params, ctx.log);
  if (found === undefined) throw await notPublished(store, params, 'lint');
  return await lintModel(found.manifest.files, params.profile, async ({ path }) => {
    const object = await store.get(`${found.prefix}/${path}`);
    if (object) return object.bytes;
    throw new StepError('not-found', `failed to read ${path}: it is missing in the store`, { hint: 'verify tells all that is wrong' });
  });
}

async function lintOnHub(params: LintParams, ctx: StepContext): Promise<Finding[]> {
  const { modelId, revision, profile } = params;
  if (modelId === undefined) throw new StepError('usage', 'failed to read parameters: --source hub needs --model-id');
  const hub = hubOf(params, ctx);
  const { commit } = await resolveRevision(hub, modelId, revision);
  const files = selectFiles(await listFiles(hub, modelId, commit), { ...params, profile: 'all' });
  return await lintHub({ hub, source: { repo: modelId, commit } }, files, profile, ctx.signal);
}

function forPeople(findings: readonly Finding[]): string {
  if (findings.length === 0) return 'nothing to complain about\n';
  return findings.map(({ severity, rule, text }) => `${severity.padEnd(7)}  ${rule.padEnd(14)}  ${oneLine(text)}\n`).join('');
}
