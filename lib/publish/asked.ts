import { StepError } from '../errors.ts';
import type { Log } from '../log.ts';
import { prefixIn } from '../model-uri.ts';
import { parents } from '../paths.ts';
import type { Store } from '../store.ts';
import { type CatalogOptions, type Found, findPublished } from './catalog.ts';
import { controlKeys, prefixOfManifest, readPublished } from './control.ts';

/** How a step's parameters name a published model: by its URI, else by repository or name. */
export interface AskedParams extends CatalogOptions {
  modelUri?: string | undefined;
  modelId?: string | undefined;
  /** Branch, tag or commit; it counts where the repository is named. */
  revision: string;
  modelName?: string | undefined;
  modelVersion?: string | undefined;
}

/** The published model that is meant; undefined when there is none. */
export async function findAsked(store: Store, params: AskedParams, log: Log): Promise<Found | undefined> {
  const { modelUri, modelId, modelName, modelVersion, controlPrefix, revision } = params;
  if (modelUri === undefined) {
    const asked = { repo: modelId, revision: modelId === undefined ? undefined : revision, name: modelName, version: modelVersion };
    return await findPublished(store, params, asked, log);
  }
  const prefix = prefixIn(store.uri, modelUri);
  const published = await readPublished(store, controlKeys(controlPrefix, prefix).manifest);
  return published && { ...published, prefix };
}

/** The `not-found` error for a model that nobody published. Of a URI it tells what lies there instead. */
export async function notPublished(store: Store, params: AskedParams, verb: string): Promise<StepError> {
  const { modelUri, modelId, modelName, modelVersion, revision, controlPrefix } = params;
  if (modelUri === undefined) {
    const asked = [modelId && `${modelId} at ${revision}`, modelName, modelVersion].filter(Boolean).join(', ');
    return new StepError('not-found', `failed to ${verb} ${asked}: it is not published in ${store.uri}`, {
      hint: 'modelferry list shows what is; import publishes a model',
    });
  }
  const { cause, hint } = await whatLiesThere(store, prefixIn(store.uri, modelUri), controlPrefix);
  return new StepError('not-found', `failed to ${verb} ${modelUri}: ${cause}`, { hint });
}

async function whatLiesThere(store: Store, prefix: string, controlPrefix: string): Promise<{ cause: string; hint: string }> {
  const list = 'modelferry list shows what is published';
  if (prefix.endsWith('.tar.zst')) {
    return { cause: 'it is an archive, which no server reads', hint: 'unpack it into a workspace and upload it from there' };
  }
  for (const above of parents(prefix)) {
    if (await store.head(controlKeys(controlPrefix, above).manifest)) {
      return { cause: `it is only a folder of a model, ${store.uri}/${above}/`, hint: 'give the URI of the whole model' };
    }
  }
  const manifests = `${controlPrefix}/manifests/${prefix}/`;
  const inside = prefixOfManifest(controlPrefix, (await first(store, manifests)) ?? '');
  if (inside !== undefined) return { cause: `it is a folder of models, such as ${store.uri}/${inside}/`, hint: list };
  if ((await first(store, `${prefix}/`)) === undefined) return { cause: 'nothing lies there', hint: list };
  if (await store.head(controlKeys(controlPrefix, prefix).claim)) {
    return { cause: 'it is not published yet: a run is at it, or was ended', hint: 'wait for that run, or run it again: it goes on there' };
  }
  // Half a model looks like this, too: without a manifest nobody can tell.
  return {
    cause: 'files lie there, but no manifest of ours says which ones make a model',
    hint: `modelferry sync --model-id org/name --key-template ${prefix} --replace publishes it at that place, verified`,
  };
}

async function first(store: Store, start: string): Promise<string | undefined> {
  for await (const { key } of store.list(start)) return key;
  return undefined;
}
