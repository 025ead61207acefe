import { resolve } from 'node:path';
import { defineStep, type StepContext } from '../../lib/define-step.ts';
import { sum } from '../../lib/dry-run.ts';
import { oneLine, StepError } from '../../lib/errors.ts';
import { type LocalEntry, removeLocal } from '../../lib/local/models.ts';
import { chosenSource, namesStore } from '../../lib/model-uri.ts';
import { schema, type ValuesOf } from '../../lib/params/declare.ts';
import { existingParams, sourceParams, yesParams } from '../../lib/params/groups/existing.ts';
import { modelParams, namingParams } from '../../lib/params/groups/model.ts';
import { registryAddressParams } from '../../lib/params/groups/registry.ts';
import { waitParams } from '../../lib/params/groups/runs.ts';
import { s3Params, storeDirParams } from '../../lib/params/groups/store.ts';
import { networkParams, transferParams } from '../../lib/params/groups/transfer.ts';
import { findRemovable, isRemovable, type Removed, removePublished } from '../../lib/publish/remove.ts';
import { placeOf, placesInUse } from '../../lib/registry/in-use.ts';
import { Registry } from '../../lib/registry/registry.ts';
import { showBytes } from '../../lib/units.ts';
import { type DeletePlan, showPlan } from './show-plan.ts';
import { checkNamed, localToDelete, publishedToDelete } from './which.ts';

const params = schema({
  ...sourceParams,
  ...existingParams,
  modelId: modelParams.modelId,
  modelName: namingParams.modelName,
  modelVersion: namingParams.modelVersion,
  ...yesParams,
  force: { type: 'boolean', description: 'Delete also what is live in the registry.', default: false },
  ...registryAddressParams,
  ...s3Params,
  ...storeDirParams,
  ...waitParams,
  ...transferParams,
  ...networkParams,
});

type Params = ValuesOf<typeof params>;

export const deleteModel = defineStep({
  name: 'delete',
  summary: 'Deletes one version of a model from the store, from this machine, or from both.',
  params,
  results: {
    'deleted-objects': 'Objects that were deleted from the store.',
    'deleted-bytes': 'Bytes of what was deleted, in the store and here.',
  },
  async run(params, ctx) {
    const source = chosenSource(params.source, ['hub'], namesStore(params) && params.modelDir === undefined);
    checkNamed(params);
    const there = source === 'local' ? undefined : await publishedToDelete(params, ctx);
    const local = source === 's3' ? [] : await localToDelete(params);
    if (there === undefined && local.length === 0) {
      throw new StepError('not-found', 'failed to delete the model: there is none', { hint: 'modelferry list shows what there is' });
    }
    // Nobody is asked about, or shown, what is not there.
    if (there && local.length === 0 && !(await isRemovable(there.store, params.controlPrefix, there.prefix))) throw nothingThere(there.uri);
    if (there) await refuseLive(there.uri, params, ctx);
    if (ctx.dryRun) {
      const found = there && (await findRemovable({ ...params, ...there }));
      if (there && found === undefined && local.length === 0) throw nothingThere(there.uri);
      ctx.print(showPlan(planOf(found && there?.uri, found, local), ctx.terminal));
      return { 'deleted-objects': '0', 'deleted-bytes': '0' };
    }
    const what = oneLine([...(there ? [there.uri] : []), ...local.map(({ files }) => resolve(files))].join(' and '));
    if (!params.yes) await ask(what, ctx);
    const removed = there && (await removePublished({ ...params, ...ctx, ...there }));
    if (there && removed === undefined && local.length === 0) throw nothingThere(there.uri);
    if (there && removed) tell(there.uri, removed, ctx);
    for (const entry of local) {
      await removeLocal(entry, { ...ctx, waitTimeout: params.waitTimeout });
      ctx.log.info({ folder: resolve(entry.files), size: showBytes(entry.manifest.totalBytes) }, 'deleted here');
    }
    const bytes = local.reduce((total, { manifest }) => total + manifest.totalBytes, removed?.bytes ?? 0);
    return { 'deleted-objects': String(removed?.objects ?? 0), 'deleted-bytes': String(bytes) };
  },
});

function nothingThere(uri: string): StepError {
  return new StepError('not-found', `failed to delete ${uri}: nothing of ours lies there`, { hint: 'modelferry list shows what there is' });
}

/** Throws `refused` when the registry has it in use and that is not to be overridden. */
async function refuseLive(uri: string, params: Params, ctx: StepContext): Promise<void> {
  const { modelRegistryUrl: url, modelRegistryToken: token, force } = params;
  if (url === undefined || force) return;
  const state = (await placesInUse(new Registry({ ...params, ...ctx, url, token, dryRun: undefined }))).get(placeOf(uri));
  if (state === undefined) return;
  throw new StepError('refused', `failed to delete ${uri}: it is ${state} in the registry`, {
    hint: 'archive it there first, or give --force',
  });
}

async function ask(what: string, { confirm }: StepContext): Promise<void> {
  if (confirm === undefined) throw new StepError('usage', `failed to delete ${what}: nobody can be asked`, { hint: 'give --yes' });
  if (!(await confirm(`delete ${what}?`))) throw new StepError('refused', `failed to delete ${what}: the answer was no`);
}

function tell(uri: string, { objects, bytes, foreign }: Removed, { log }: StepContext): void {
  log.info({ uri, objects, bytes }, 'deleted from the store');
  if (foreign.length > 0) log.warn({ uri, keys: foreign.slice(0, 10) }, 'objects that are not ours stay');
}

function planOf(uri: string | undefined, found: Removed | undefined, local: readonly LocalEntry[]): DeletePlan {
  const folders = local.map(({ files, manifest }) => ({ folder: resolve(files), ...sum(manifest.files) }));
  return { uri: uri ?? null, store: { files: found?.objects ?? 0, bytes: found?.bytes ?? 0 }, foreign: found?.foreign ?? [], folders };
}
