import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { defineStep, type StepContext } from '../../lib/define-step.ts';
import { isTransient, kindOf, messageOf, StepError } from '../../lib/errors.ts';
import { hubOf } from '../../lib/hub/connection.ts';
import { resolveRevision } from '../../lib/hub/resolve.ts';
import { parseManifest } from '../../lib/manifest.ts';
import { type Identity, identityOf, namesOf, prefixOf } from '../../lib/naming.ts';
import { schema, type ValuesOf } from '../../lib/params/declare.ts';
import { methodParam } from '../../lib/params/groups/compression.ts';
import { existingParams } from '../../lib/params/groups/existing.ts';
import { hubParams } from '../../lib/params/groups/hub.ts';
import { modelParams, namingParams } from '../../lib/params/groups/model.ts';
import { registryParams } from '../../lib/params/groups/registry.ts';
import { s3Params, storeDirParams } from '../../lib/params/groups/store.ts';
import { networkParams, requestParams } from '../../lib/params/groups/transfer.ts';
import { manifestParams, workspaceParams } from '../../lib/params/groups/workspace.ts';
import { type ModelPlace, placeAt, placeOf } from '../../lib/publish/model-place.ts';
import { abandon, complete, type Registration, reserve, type Subject } from '../../lib/registry/registration.ts';
import { type Change, Registry } from '../../lib/registry/registry.ts';
import { findManifest, readManifestFile, writeAtomically } from '../../lib/workspace.ts';
import { showChanges } from './changes.ts';
import { detailsOf } from './details.ts';
import { openPlace, type Place, placeFaults } from './place.ts';
import { readPublished } from './published.ts';

const params = schema({
  phase: {
    type: 'string',
    enum: ['all', 'reserve', 'complete', 'abandon'],
    description: 'all at once, or reserve first, then complete or abandon.',
    default: 'all',
  },
  modelUri: existingParams.modelUri,
  modelArtifactId: {
    type: 'string',
    pattern: '^[1-9][0-9]{0,9}$',
    'x-shape': 'an id, a number',
    description: 'Artifact that a reservation made, for complete and abandon.',
  },
  ...modelParams,
  ...namingParams,
  ...methodParam,
  ...registryParams,
  ...hubParams,
  ...s3Params,
  ...storeDirParams,
  ...workspaceParams,
  ...manifestParams,
  ...requestParams,
  ...networkParams,
});

type Params = ValuesOf<typeof params>;

const noIds = { 'registered-model-id': '', 'model-version-id': '', 'model-artifact-id': '' };
const names = ['register', 'register-in-model-registry'];

export const register = defineStep({
  name: 'register-in-model-registry',
  aliases: ['register'],
  summary: 'Registers a published model in the Kubeflow Model Registry.',
  params,
  results: {
    'registered-model-id': 'Id of the RegisteredModel; empty when there is no registry.',
    'model-version-id': 'Id of the ModelVersion; empty when there is no registry.',
    'model-artifact-id': 'Id of the ModelArtifact; empty when there is no registry.',
    commit: 'Commit that was registered or reserved: the revision for the steps that follow.',
  },
  faults(params) {
    const { phase, modelId, modelRegistryUrl } = params;
    if (modelRegistryUrl === undefined || isSkipped(params) || phase === 'abandon') return [];
    const nameless = phase === 'reserve' && modelId === undefined ? ['--phase reserve needs --model-id'] : [];
    return [...nameless, ...placeFaults(params)];
  },
  async run(params, ctx) {
    const changes: Change[] = [];
    const results = await registered(params, ctx, changes);
    if (ctx.dryRun) ctx.print(showChanges(changes, ctx.terminal));
    return results;
  },
});

/** `changes`: what a dry run would write is added to them. */
async function registered(params: Params, ctx: StepContext, changes: Change[]) {
  const { phase, modelRegistryUrl: url } = params;
  const skipped = isSkipped(params);
  if (url === undefined || skipped) {
    ctx.log.info({ phase, why: skipped ? '--skip-tasks' : 'no --model-registry-url' }, 'nothing is registered: passing on');
    return { ...noIds, commit: phase === 'reserve' ? await resolveCommit(params, ctx) : await knownCommit(params) };
  }
  const { modelRegistryToken: token, retries, stallTimeout } = params;
  const dryRun = ctx.dryRun ? (change: Change) => changes.push(change) : undefined;
  const registry = new Registry({ url, token, retries, stallTimeout, signal: ctx.signal, log: ctx.log, dryRun });
  if (phase === 'abandon')
    return { ...noIds, 'model-artifact-id': await abandonPhase(registry, params, ctx), commit: await knownCommit(params) };
  if (phase === 'reserve') {
    const identity: Identity = { repo: repoOf(params), commit: await resolveCommit(params, ctx), method: methodOf(params) };
    const place = await openPlace(params, ctx);
    return resultsOf(await reserveAt(registry, place, identity, params), identity, ctx);
  }
  return await publishedPhase(registry, params, ctx);
}

function isSkipped({ skipTasks, taskName }: Params): boolean {
  return skipTasks.some((task) => names.includes(task) || task === taskName);
}

/** Phases all and complete: the manifest in the store says what is registered. */
async function publishedPhase(registry: Registry, params: Params, ctx: StepContext) {
  const place = await openPlace(params, ctx);
  const expected = await expectedIdentity(params);
  const at = params.modelUri ? placeAt(params.controlPrefix, place.prefixOf(params.modelUri)) : expected && placeFor(expected, params);
  if (at === undefined) {
    throw new StepError('usage', 'failed to register: what was published is not known', {
      hint: 'give --model-uri, or the --workspace that upload worked on',
    });
  }
  const meant = params.phase === 'all' && !params.modelUri ? expected : undefined;
  const published = await readPublished(place, at, params, ctx).catch(async (error) => {
    // The registry shows what is missing.
    if (meant) await reserveAt(registry, place, meant, params);
    throw error;
  });
  const identity = identityOf(published.manifest);
  const subject: Subject = { identity, ...namesOf(identity, params), uri: `${place.uri}/${at.path}` };
  if (meant && !isDeepStrictEqual(identity, meant)) checkOther(subject, meant, params, ctx);
  const done = await complete(registry, subject, detailsOf(identity, place, at.path, params, published), published.sha256);
  const { modelArtifactId: reserved } = params;
  if (reserved && reserved !== done.artifact.id) {
    ctx.log.warn({ reserved, registered: done.artifact.id }, 'what was published is not what was reserved');
    await abandon(registry, { artifactId: reserved }, ctx.log);
  }
  await leaveVersionId(params.workspace, done, ctx);
  return resultsOf(done, identity, ctx);
}

/** A place may hold another commit than the one that is meant: registered as what it is. Throws `refused` under a version that was given for the other. */
function checkOther({ identity, uri }: Subject, meant: Identity, { modelVersion }: Params, { log }: StepContext): void {
  const [holds, wanted] = [identity, meant].map(({ repo, commit, method }) => `${repo}@${commit}${method ? ` (${method})` : ''}`);
  if (modelVersion !== undefined) {
    throw new StepError('refused', `failed to register version ${modelVersion}: ${uri} holds ${holds}, not ${wanted}`, {
      hint: 'upload it first, or give --model-uri to register what lies there',
    });
  }
  log.warn({ uri, holds, meant: wanted }, 'what is published is not what was meant');
}

async function reserveAt(registry: Registry, place: Place, identity: Identity, params: Params): Promise<Registration> {
  const { path } = placeFor(identity, params);
  const subject: Subject = { identity, ...namesOf(identity, params), uri: `${place.uri}/${path}` };
  return await reserve(registry, subject, detailsOf(identity, place, path, params));
}

/** Keyed by what reserve gave, or by names where it gave nothing; what was never reserved needs no abandoning. */
async function abandonPhase(registry: Registry, params: Params, ctx: StepContext): Promise<string> {
  const { modelArtifactId } = params;
  if (modelArtifactId) return (await abandon(registry, { artifactId: modelArtifactId }, ctx.log)) ?? '';
  try {
    const commit = isCommit(params.revision) ? params.revision : await resolveCommit(params, ctx);
    const identity = { repo: repoOf(params), commit, method: methodOf(params) };
    return (await abandon(registry, { identity, ...namesOf(identity, params) }, ctx.log)) ?? '';
  } catch (error) {
    if (isTransient(error) || ctx.signal.aborted) throw error;
    ctx.log.info({ error: messageOf(error) }, 'nothing to abandon: what would have been reserved is not known');
    return '';
  }
}

/**
 * Who is to be registered, as far as it is known before the store is asked: by the manifest that was named, else the parameters, else the
 * workspace's newest manifest. With a URI the workspace is left alone: its newest model may be another one, and it need not be mounted.
 */
async function expectedIdentity(params: Params): Promise<Identity | undefined> {
  const { workspace, manifest, modelId, revision, modelUri } = params;
  if (manifest === undefined && modelId !== undefined && isCommit(revision))
    return { repo: modelId, commit: revision, method: methodOf(params) };
  if (manifest === undefined && modelUri) return undefined;
  try {
    const path = await findManifest(workspace, manifest);
    const identity = identityOf(parseManifest(await readManifestFile(path), path));
    return modelId === undefined || identity.repo === modelId ? identity : undefined;
  } catch (error) {
    if (kindOf(error) === 'not-found') return undefined;
    throw error;
  }
}

async function resolveCommit(params: Params, ctx: StepContext): Promise<string> {
  return (await resolveRevision(hubOf(params, ctx), repoOf(params), params.revision)).commit;
}

async function knownCommit(params: Params): Promise<string> {
  return (await expectedIdentity(params))?.commit ?? '';
}

/** What the version will have been made by: a reservation comes before there is a manifest that says it. */
function methodOf({ method }: Params): string | undefined {
  return method === 'none' ? undefined : method;
}

function repoOf({ modelId, phase }: Params): string {
  if (modelId !== undefined) return modelId;
  throw new StepError('usage', `failed to read parameters: --phase ${phase} needs --model-id`);
}

function placeFor(identity: Identity, { keyTemplate, controlPrefix, ...given }: Params): ModelPlace {
  return placeOf(controlPrefix, prefixOf(keyTemplate, identity, namesOf(identity, given), controlPrefix), identity.method);
}

function isCommit(revision: string): boolean {
  return /^[0-9a-f]{40}$/.test(revision);
}

/** For pipelines that read files (design section 5). */
async function leaveVersionId(workspace: string, { version }: Registration, { dryRun }: StepContext): Promise<void> {
  const there = await stat(workspace).catch(() => undefined);
  if (there?.isDirectory() && !dryRun) await writeAtomically(join(workspace, 'model_version_id'), version.id);
}

function resultsOf({ model, version, artifact }: Registration, { commit }: Identity, { log, dryRun }: StepContext) {
  const ids = { 'registered-model-id': model.id, 'model-version-id': version.id, 'model-artifact-id': artifact.id };
  const event = artifact.state === 'LIVE' ? 'registered' : 'reserved';
  if (!dryRun) log.info({ model: model.name, version: version.name, uri: artifact.uri, ...ids }, event);
  return { ...ids, commit };
}
