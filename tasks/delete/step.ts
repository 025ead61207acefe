import { resolve } from 'node:path';
import { defineStep, type StepContext } from '../../lib/define-step.ts';
import { sum } from '../../lib/dry-run.ts';
import { oneLine, StepError } from '../../lib/errors.ts';
import { type LocalEntry, localModelIn, localModels, removeLocal } from '../../lib/local/models.ts';
import { chosenSource, namesStore, prefixIn, withBucketOfUri } from '../../lib/model-uri.ts';
import { identityOf, knownStart, namesOf } from '../../lib/naming.ts';
import { openStore } from '../../lib/open-store.ts';
import { schema } from '../../lib/params/declare.ts';
import { existingParams, sourceParams, yesParams } from '../../lib/params/groups/existing.ts';
import { modelParams, namingParams } from '../../lib/params/groups/model.ts';
import { registryAddressParams } from '../../lib/params/groups/registry.ts';
import { waitParams } from '../../lib/params/groups/runs.ts';
import { s3Params, storeDirParams } from '../../lib/params/groups/store.ts';
import { networkParams, transferParams } from '../../lib/params/groups/transfer.ts';
import { findPublished } from '../../lib/publish/catalog.ts';
import { findRemovable, isRemovable, type Removed, removePublished } from '../../lib/publish/remove.ts';
import { placeOf, placesInUse } from '../../lib/registry/in-use.ts';
import { Registry } from '../../lib/registry/registry.ts';
import type { Store } from '../../lib/store.ts';
import { showBytes } from '../../lib/units.ts';
import { type DeletePlan, showPlan } from './show-plan.ts';

export const deleteModel = defineStep({
  name: 'delete',
  summary: 'Deletes one version of a model from the store, from this machine, or from both.',
  params: schema({
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
  }),
  results: {
    'deleted-objects': 'Objects that were deleted from the store.',
    'deleted-bytes': 'Bytes of what was deleted, in the store and here.',
  },
  async run(params, ctx) {
    const { modelUri, modelId, modelName, modelVersion, modelDir, modelRegistryUrl, controlPrefix } = params;
    const source = chosenSource(params.source, ['hub'], namesStore(params) && modelDir === undefined);
    const byName = (modelId ?? modelName) !== undefined && modelVersion !== undefined;
    if (modelUri === undefined && modelDir === undefined && !byName) {
      throw new StepError(
        'usage',
        'failed to read parameters: give --model-uri, --model-dir, or --model-version with --model-name or --model-id',
        {
          hint: 'modelferry list shows what there is; prune deletes many',
        },
      );
    }
    const store = source === 'local' ? undefined : openStore(withBucketOfUri(params), ctx);
    const prefix = store && (await prefixToDelete(store, params, ctx));
    const local = source === 's3' ? [] : await localToDelete(params);
    if (prefix === undefined && local.length === 0) {
      throw new StepError('not-found', 'failed to delete the model: there is none', { hint: 'modelferry list shows what there is' });
    }
    const uri = prefix === undefined ? undefined : `${store?.uri}/${prefix}/`;
    // Nobody is asked about, or shown, what is not there.
    if (store && prefix !== undefined && local.length === 0 && !(await isRemovable(store, controlPrefix, prefix))) throw nothingThere(uri);
    if (uri !== undefined && modelRegistryUrl !== undefined && !params.force) {
      const registry = new Registry({ ...params, ...ctx, url: modelRegistryUrl, token: params.modelRegistryToken, dryRun: undefined });
      const state = (await placesInUse(registry)).get(placeOf(uri));
      if (state !== undefined) {
        throw new StepError('refused', `failed to delete ${uri}: it is ${state} in the registry`, {
          hint: 'archive it there first, or give --force',
        });
      }
    }
    const what = oneLine([...(uri === undefined ? [] : [uri]), ...local.map(({ files }) => resolve(files))].join(' and '));
    if (ctx.dryRun) {
      const found = store && prefix !== undefined ? await findRemovable({ ...params, store, prefix }) : undefined;
      if (found === undefined && local.length === 0) throw nothingThere(uri);
      ctx.print(showPlan(planOf(found && uri, found, local), ctx.terminal));
      return { 'deleted-objects': '0', 'deleted-bytes': '0' };
    }
    if (!params.yes) {
      if (ctx.confirm === undefined) throw new StepError('usage', `failed to delete ${what}: nobody can be asked`, { hint: 'give --yes' });
      if (!(await ctx.confirm(`delete ${what}?`))) throw new StepError('refused', `failed to delete ${what}: the answer was no`);
    }
    const removed = store && prefix !== undefined ? await removePublished({ ...params, ...ctx, store, controlPrefix, prefix }) : undefined;
    if (removed) {
      ctx.log.info({ uri, objects: removed.objects, bytes: removed.bytes }, 'deleted from the store');
      if (removed.foreign.length > 0) ctx.log.warn({ uri, keys: removed.foreign.slice(0, 10) }, 'objects that are not ours stay');
    }
    if (uri !== undefined && removed === undefined && local.length === 0) throw nothingThere(uri);
    let bytes = removed?.bytes ?? 0;
    for (const entry of local) {
      await removeLocal(entry, { ...ctx, waitTimeout: params.waitTimeout });
      bytes += entry.manifest.totalBytes;
      ctx.log.info({ folder: resolve(entry.files), size: showBytes(entry.manifest.totalBytes) }, 'deleted here');
    }
    return { 'deleted-objects': String(removed?.objects ?? 0), 'deleted-bytes': String(bytes) };
  },
});

function nothingThere(uri: string | undefined): StepError {
  return new StepError('not-found', `failed to delete ${uri}: nothing of ours lies there`, { hint: 'modelferry list shows what there is' });
}

function planOf(uri: string | undefined, found: Removed | undefined, local: readonly LocalEntry[]): DeletePlan {
  const folders = local.map(({ files, manifest }) => ({ folder: resolve(files), ...sum(manifest.files) }));
  return { uri: uri ?? null, store: { files: found?.objects ?? 0, bytes: found?.bytes ?? 0 }, foreign: found?.foreign ?? [], folders };
}

interface Which {
  modelUri?: string | undefined;
  modelId?: string | undefined;
  modelName?: string | undefined;
  modelVersion?: string | undefined;
  modelDir?: string | undefined;
  workspace: string;
  keyTemplate: string;
  controlPrefix: string;
}

/** The prefix meant; that of a model whose deletion was cut short too, where the names alone tell it. */
async function prefixToDelete(store: Store, params: Which, { log }: Pick<StepContext, 'log'>): Promise<string | undefined> {
  const { modelUri, modelId, modelName, modelVersion, keyTemplate } = params;
  if (modelUri !== undefined) return prefixIn(store.uri, modelUri);
  if (modelVersion === undefined) return undefined;
  const found = await findPublished(store, params, { repo: modelId, name: modelName, version: modelVersion }, log);
  if (found) return found.prefix;
  const [org, repo] = modelId?.includes('/') ? modelId.split('/') : ['', modelId];
  const words = { ...(modelId === undefined ? {} : { org, repo }), name: modelName ?? repo, version: modelVersion };
  const all = [...keyTemplate.matchAll(/\{([a-z]+)\}/g)].every(([, word = '']) => words[word as 'name'] !== undefined);
  return all && keyTemplate.includes('{version}') ? knownStart(keyTemplate, words).replace(/\/+$/, '') : undefined;
}

async function localToDelete({ modelDir, modelId, modelName, modelVersion, workspace }: Which): Promise<LocalEntry[]> {
  if (modelDir !== undefined) {
    const entry = await localModelIn(modelDir);
    return entry ? [entry] : [];
  }
  return (await localModels(workspace)).filter(({ manifest }) => {
    const identity = identityOf(manifest);
    const { name, version } = namesOf(identity, {});
    return (
      version === modelVersion && (modelId === undefined || identity.repo === modelId) && (modelName === undefined || name === modelName)
    );
  });
}
