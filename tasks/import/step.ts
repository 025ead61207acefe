import { isDeepStrictEqual } from 'node:util';
import { defineStep, type StepContext } from '../../lib/define-step.ts';
import { messageOf } from '../../lib/errors.ts';
import type { Manifest } from '../../lib/manifest.ts';
import { archiveMethod } from '../../lib/methods.ts';
import { identityOf } from '../../lib/naming.ts';
import { openStore } from '../../lib/open-store.ts';
import { schema } from '../../lib/params/declare.ts';
import { publishResults } from '../../lib/params/results.ts';
import { controlKeys } from '../../lib/publish/control.ts';
import { checkNesting } from '../../lib/publish/inventory.ts';
import { lookForManifest } from '../../lib/publish/look.ts';
import { publishingOf } from '../../lib/publish/publishing.ts';
import type { Results } from '../../lib/results.ts';
import { storeFaults } from '../../lib/s3-settings.ts';
import { compress } from '../compress/step.ts';
import { download } from '../download/step.ts';
import { register } from '../register-in-model-registry/step.ts';
import { upload } from '../upload/step.ts';

const { pinnedCommit, ...downloadProperties } = download.own.properties;
const { modelUri, modelArtifactId, phase, ...registerProperties } = register.own.properties;
const { manifest, manifestSha256, taskName, ...uploadProperties } = upload.own.properties;
const { manifest: _, manifestSha256: __, taskName: ___, ...compressProperties } = compress.own.properties;

const defaultStoreDir = './modelferry-store';

const results = { ...publishResults, ...register.results };

export const importModel = defineStep({
  name: 'import',
  summary: 'Downloads, publishes and registers a model in one go, for laptops and Jobs.',
  params: schema(
    {
      ...downloadProperties,
      ...compressProperties,
      ...uploadProperties,
      ...registerProperties,
      storeDir: {
        ...uploadProperties.storeDir,
        description: `Folder to use as the store instead of S3 (default without --s3-bucket: ${defaultStoreDir}).`,
      },
    },
    ['modelId'],
  ),
  results,
  faults: (given) => storeFaults(withStore(given)),
  async run(given, ctx) {
    const startedAt = Date.now();
    const params = withStore(given);
    // Conflicts show before a byte moves, and every step works on the commit that the reservation found.
    const reserved = await register.run({ ...params, phase: 'reserve' }, ctx);
    const pinned = { ...params, revision: reserved.commit || params.revision };
    try {
      if (reserved.commit !== '') await lookAhead(pinned, { repo: given.modelId, commit: reserved.commit }, ctx);
      // By the commit, of the revision that was asked for: that is what the model's record says.
      const downloaded = await download.run({ ...params, ...(reserved.commit && { pinnedCommit: reserved.commit }) }, ctx);
      if (ctx.dryRun) return nothing(downloaded.commit);
      const compressed = await compress.run({ ...pinned, ...manifestOf(downloaded) }, ctx);
      const uploaded = await upload.run({ ...pinned, ...manifestOf(compressed) }, ctx);
      const registered = await register.run(
        {
          ...pinned,
          ...manifestOf(uploaded),
          phase: 'complete',
          modelUri: uploaded['model-uri'],
          modelArtifactId: reserved['model-artifact-id'],
        },
        ctx,
      );
      ctx.log.info(
        { uri: uploaded['model-uri'], bytes: Number(uploaded['total-bytes']), seconds: (Date.now() - startedAt) / 1000 },
        'imported',
      );
      return { ...registered, ...uploaded };
    } catch (error) {
      await abandon({ ...pinned, modelArtifactId: reserved['model-artifact-id'] }, ctx);
      throw error;
    }
  },
});

/** Without a bucket the store is a folder. */
function withStore<Given extends { storeDir?: string; s3Bucket?: string }>(given: Given): Given {
  return given.storeDir === undefined && given.s3Bucket === undefined ? { ...given, storeDir: defaultStoreDir } : given;
}

function manifestOf(results: { manifest: string; 'manifest-sha256': string }): { manifest: string; manifestSha256: string } {
  return { manifest: results.manifest, manifestSha256: results['manifest-sha256'] };
}

/** A wrong bucket or key, and another model in the place, show before a byte moves; upload looks again, and more closely. */
async function lookAhead(
  params: Parameters<typeof upload.run>[0] & { method: string },
  source: { repo: string; commit: string },
  ctx: StepContext,
): Promise<void> {
  const method = params.method === 'none' ? undefined : params.method;
  const store = openStore(params, ctx);
  const { uri, prefix, controlPrefix, replace } = publishingOf(params, store, { ...source, method });
  await checkNesting(store, controlPrefix, prefix);
  if (method === archiveMethod) return;
  const isSame = async (published: Manifest) => isDeepStrictEqual(identityOf(published), { ...source, method });
  const published = await lookForManifest({ store, replace, content: { isSame } }, controlKeys(controlPrefix, prefix).manifest, uri);
  if (ctx.dryRun) ctx.log.info({ uri, published: published !== undefined }, 'would publish');
}

/** What a dry run has to give: nothing was made. */
function nothing(commit: string) {
  const names = Object.keys(results);
  return { ...(Object.fromEntries(names.map((name) => [name, ''])) as Results<typeof results>), commit };
}

/** The reservation must not look as if somebody were still working on it; the failure that led here is what counts. */
async function abandon(params: Omit<Parameters<typeof register.run>[0], 'phase'>, ctx: StepContext): Promise<void> {
  if (params.modelRegistryUrl === undefined || ctx.dryRun) return;
  const signal = AbortSignal.timeout(15_000);
  await register.run({ ...params, phase: 'abandon' }, { ...ctx, signal }).catch((error) => {
    ctx.log.warn({ error: messageOf(error) }, 'reservation not abandoned');
  });
}
