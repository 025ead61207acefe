import type { StepContext } from '../../lib/define-step.ts';
import { StepError } from '../../lib/errors.ts';
import { type LocalEntry, localModelIn, localModels } from '../../lib/local/models.ts';
import { prefixIn, withBucketOfUri } from '../../lib/model-uri.ts';
import { identityOf, knownStart, namesOf } from '../../lib/naming.ts';
import { openStore, type StoreParams } from '../../lib/open-store.ts';
import { findPublished } from '../../lib/publish/catalog.ts';
import type { Store } from '../../lib/store.ts';

/** What names the model to delete. */
export interface Which {
  modelUri?: string | undefined;
  modelId?: string | undefined;
  modelName?: string | undefined;
  modelVersion?: string | undefined;
  modelDir?: string | undefined;
  workspace: string;
  keyTemplate: string;
  controlPrefix: string;
}

/** Throws `usage` when it is not said which version of which model. */
export function checkNamed({ modelUri, modelDir, modelId, modelName, modelVersion }: Which): void {
  if (modelUri !== undefined || modelDir !== undefined || ((modelId ?? modelName) !== undefined && modelVersion !== undefined)) return;
  throw new StepError(
    'usage',
    'failed to read parameters: give --model-uri, --model-dir, or --model-version with --model-name or --model-id',
    { hint: 'modelferry list shows what there is; prune deletes many' },
  );
}

/** The place in the store that is meant, whatever lies there; undefined when nothing tells it. */
export async function publishedToDelete(
  params: Which & StoreParams,
  ctx: Pick<StepContext, 'log' | 'signal'>,
): Promise<{ store: Store; prefix: string; uri: string } | undefined> {
  const store = openStore(withBucketOfUri(params), ctx);
  const prefix = await prefixToDelete(store, params, ctx);
  return prefix === undefined ? undefined : { store, prefix, uri: `${store.uri}/${prefix}/` };
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

/** The models of this machine that are meant. */
export async function localToDelete({ modelDir, modelId, modelName, modelVersion, workspace }: Which): Promise<LocalEntry[]> {
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
