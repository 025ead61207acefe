import type { StepContext } from '../../lib/define-step.ts';
import { kindOf, messageOf, StepError } from '../../lib/errors.ts';
import { type Hub, hubOf } from '../../lib/hub/connection.ts';
import { type ModelInfo, resolveRevision } from '../../lib/hub/resolve.ts';
import type { GroupValues } from '../../lib/params/declare.ts';
import type { hubParams } from '../../lib/params/groups/hub.ts';
import type { transferParams } from '../../lib/params/groups/transfer.ts';
import { checkKnown, type Policy } from '../../lib/policy/policy.ts';
import { findAsked, notPublished } from '../../lib/publish/asked.ts';
import type { Found } from '../../lib/publish/catalog.ts';
import type { Store } from '../../lib/store.ts';
import { type Plan, planFromHub, planFromStore } from './plan.ts';
import type { RequestParams } from './request.ts';

export type BringParams = RequestParams &
  Policy &
  GroupValues<typeof hubParams> &
  Pick<GroupValues<typeof transferParams>, 'retries' | 'stallTimeout'> & { controlPrefix: string; refresh: boolean };

/**
 * Gives the plans in their order, the store's and then the Hub's, to `use`, until one of them has brought the model. The Hub is asked only when
 * the store cannot give it, and never for other bytes: where the store had told the commit, it is that commit.
 * Throws what the last source said, naming the first one's failure too.
 */
export async function bringFirst<T>(
  params: BringParams,
  store: Store | undefined,
  ctx: StepContext,
  use: (plan: Plan) => Promise<T>,
): Promise<T> {
  const { log } = ctx;
  const hub = hubOf(params, ctx);
  const info = params.refresh && params.modelId !== undefined ? await commitNow(hub, params.modelId, params.revision, ctx) : undefined;
  let found: Found | undefined;
  let failure: unknown;
  if (store) {
    try {
      found = await findIn(store, params, info?.commit, ctx);
      if (found) return await use(await planFromStore(store, found, params, params.controlPrefix));
      failure = await notPublished(store, params, 'fetch');
      log.info({ store: store.uri }, 'the store does not have it');
    } catch (error) {
      ctx.signal.throwIfAborted();
      if (!mayFallBack(error)) throw error;
      failure = error;
    }
  }
  const repo = params.modelId ?? (found?.manifest.derived ? undefined : found?.manifest.source.repo);
  if (params.fallback === 'none' || repo === undefined || found?.manifest.derived !== undefined) throw failure;
  if (failure !== undefined) log.warn({ error: messageOf(failure), repo }, 'falling back to the Hub');
  const revision = found?.manifest.source.commit ?? info?.commit ?? params.revision;
  try {
    const resolved = info && info.commit === revision ? info : await resolveRevision(hub, repo, revision);
    const plan = await planFromHub(hub, repo, params.revision, resolved, params);
    checkKnown(params, { license: resolved.license, paths: plan.files.map(({ path }) => path) }, log);
    return await use(plan);
  } catch (error) {
    ctx.signal.throwIfAborted();
    throw failure === undefined ? error : both(repo, failure, error);
  }
}

/** Where the Hub has the branch now; undefined when it cannot be asked: what is published will do then. */
async function commitNow(hub: Hub, repo: string, revision: string, { log, signal }: StepContext): Promise<ModelInfo | undefined> {
  try {
    return await resolveRevision(hub, repo, revision);
  } catch (error) {
    signal.throwIfAborted();
    log.warn({ error: messageOf(error) }, 'the Hub does not tell the newest commit: the newest published one is taken');
    return undefined;
  }
}

async function findIn(store: Store, params: BringParams, commit: string | undefined, { log }: StepContext): Promise<Found | undefined> {
  const found = await findAsked(store, commit === undefined ? params : { ...params, revision: commit }, log);
  if (found) log.info({ uri: `${store.uri}/${found.prefix}/`, commit: found.manifest.source.commit }, 'found in the store');
  return found;
}

/** The store is away, damaged, or does not let us in; all else would be as wrong for the Hub. */
function mayFallBack(error: unknown): boolean {
  return ['transient', 'not-found', 'integrity', 'denied'].includes(kindOf(error));
}

function both(repo: string, store: unknown, hub: unknown): unknown {
  const kinds = [kindOf(store), kindOf(hub)];
  const kind = kinds.includes('transient') ? 'transient' : kindOf(hub);
  if (kind === 'bug' || kind === 'terminated') return hub;
  const hint = hub instanceof StepError ? hub.hint : undefined;
  return new StepError(kind, `failed to fetch ${repo}: store: ${messageOf(store)}; Hub: ${messageOf(hub)}`, { hint, cause: hub });
}
