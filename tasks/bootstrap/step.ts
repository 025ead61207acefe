import { defineStep, type StepContext } from '../../lib/define-step.ts';
import { isTransient, kindOf, messageOf, StepError } from '../../lib/errors.ts';
import { openBucket } from '../../lib/open-store.ts';
import { schema, type ValuesOf } from '../../lib/params/declare.ts';
import { registryParams } from '../../lib/params/groups/registry.ts';
import { BucketSettings } from '../../lib/s3/bucket.ts';
import { register } from '../register-in-model-registry/step.ts';
import { sync } from '../sync/step.ts';
import { type ModelEntry, readModelsFile } from './models-file.ts';

const { modelId, revision, modelName, modelVersion, storeDir, runId, shard, plan, planSha256, reportDir, ...syncProperties } =
  sync.own.properties;

const params = schema(
  {
    versioning: { type: 'boolean', description: 'Keep every version of an object.', default: true },
    expireOldVersionsDays: {
      type: 'integer',
      minimum: 0,
      maximum: 36_500,
      description: 'Days after which versions that were replaced or deleted go; 0: never.',
      default: 30,
    },
    abortUploadsDays: {
      type: 'integer',
      minimum: 0,
      maximum: 36_500,
      description: 'Days after which unfinished uploads go; 0: never.',
      default: 7,
    },
    encryption: { type: 'boolean', description: 'Encrypt what is put (--s3-sse, AES256 by default).', default: true },
    blockPublicAccess: { type: 'boolean', description: 'Let nothing in the bucket be public.', default: true },
    modelsFile: {
      type: 'string',
      description:
        'File of models to bring into the bucket.\n\nA line each, `org/name` or `org/name@revision`, or a JSON array of objects with the names of flags.',
      'x-local': true,
    },
    ...syncProperties,
    ...registryParams,
  },
  ['s3Bucket'],
);

type Params = ValuesOf<typeof params>;

export const bootstrap = defineStep({
  name: 'bootstrap',
  summary: 'Makes a bucket ready for models, and brings a list of them into it.',
  params,
  results: {
    bucket: 'done (made), already, or wanted (by a dry run).',
    'public-access-block': 'done, already, not-supported (by this store), off, or wanted.',
    encryption: 'done, already, not-supported, off, or wanted.',
    versioning: 'done, already, not-supported, off, or wanted.',
    'old-versions': 'Rule that expires old versions: done, already, not-supported, or wanted.',
    'unfinished-uploads': 'Rule that ends unfinished uploads: done, already, not-supported, or wanted.',
    'model-count': 'Number of models that the list has, all of them published.',
  },
  async run(params, ctx) {
    // What is wrong in the list shows before anything is made.
    const models = params.modelsFile === undefined ? [] : await readModelsFile(params.modelsFile);
    const settings = await prepare(params, ctx);
    if (ctx.dryRun) ctx.print(show(settings, ctx.terminal));
    if (!ctx.dryRun || settings.bucket === 'already') await bringAll(models, params, ctx);
    return { ...settings, 'model-count': String(models.length) };
  },
});

/** Settles one feature after the other, the safest first; tells each. Throws only at the end, so that what can be done is done. */
async function prepare(params: Params, ctx: StepContext) {
  const bucket = new BucketSettings(openBucket(params, ctx), ctx.dryRun);
  const made = await bucket.create();
  const failures: unknown[] = [];
  const settle = async (feature: string, on: boolean, work: () => Promise<string>): Promise<string> => {
    // A bucket that a dry run did not make cannot be looked at.
    if (!on || made === 'wanted') return on ? 'wanted' : 'off';
    try {
      const outcome = await work();
      const log = outcome === 'not-supported' ? ctx.log.warn.bind(ctx.log) : ctx.log.info.bind(ctx.log);
      log({ feature, outcome }, outcome === 'not-supported' ? `${feature}: this store does not have it` : `${feature}: ${outcome}`);
      return outcome;
    } catch (error) {
      ctx.signal.throwIfAborted();
      ctx.log.error({ feature, kind: kindOf(error), error: messageOf(error) }, `${feature}: failed`);
      failures.push(error);
      return 'failed';
    }
  };
  ctx.log.info({ feature: 'bucket', outcome: made }, `bucket: ${made}`);
  const sse = { algorithm: params.s3Sse ?? 'AES256', kmsKeyId: params.s3KmsKeyId } as const;
  const prefixes = prefixesOf(params);
  const outcomes = {
    bucket: made as string,
    'public-access-block': await settle('public-access-block', params.blockPublicAccess, () => bucket.blockPublicAccess()),
    encryption: await settle('encryption', params.encryption, () => bucket.encryption(sse, { exactly: params.s3Sse !== undefined })),
    versioning: await settle('versioning', params.versioning, () => bucket.versioning()),
    'old-versions': await settle('old-versions', true, () =>
      bucket.lifecycle({ purpose: 'old-versions', days: params.expireOldVersionsDays, prefixes }),
    ),
    'unfinished-uploads': await settle('unfinished-uploads', true, () =>
      bucket.lifecycle({ purpose: 'unfinished-uploads', days: params.abortUploadsDays, prefixes }),
    ),
  };
  if (failures.length > 0) throw worst(failures);
  return outcomes;
}

/** Where our objects lie, so that rules touch nobody else's in a bucket that is shared: the template up to its first word, and our records. */
function prefixesOf({ keyTemplate, controlPrefix }: Params): string[] {
  const models = keyTemplate.replace(/^\/+/, '').replace(/\{.*$/s, '');
  return models === '' ? [''] : [models, `${controlPrefix}/`];
}

/** Brings one after the other; one that fails does not stop the others, and each is published whole or not at all. */
async function bringAll(models: readonly ModelEntry[], params: Params, ctx: StepContext): Promise<void> {
  const failures: unknown[] = [];
  for (const entry of models) {
    try {
      await bring(entry, params, ctx);
    } catch (error) {
      ctx.signal.throwIfAborted();
      ctx.log.error({ model: entry.modelId, kind: kindOf(error), error: messageOf(error) }, 'model not brought');
      failures.push(error);
    }
  }
  if (failures.length === 0) return;
  const cause = worst(failures);
  throw new StepError(kindOf(cause), `failed to bring ${failures.length} of ${models.length} models: ${messageOf(cause)}`, {
    hint: cause instanceof StepError ? cause.hint : undefined,
    cause,
  });
}

async function bring(entry: ModelEntry, params: Params, ctx: StepContext): Promise<void> {
  const { modelsFile: _, ...shared } = params;
  const given = { revision: 'main', ...shared, ...entry };
  const published = await sync.run(given, ctx);
  if (ctx.dryRun || params.modelRegistryUrl === undefined) return;
  const modelUri = published['model-uri'];
  const whole = { workspace: '', skipTasks: [], phase: 'all' as const };
  await register.run({ ...given, ...whole, revision: published.commit, modelUri }, ctx);
}

/** Of several failures the one to end with: what a retry may mend comes first, because the rerun tells the others again. */
function worst(failures: readonly unknown[]): unknown {
  return failures.find(isTransient) ?? failures[0];
}

/** What a dry run found, for people or as one line of JSON. */
function show(settings: Record<string, string>, forPeople: boolean): string {
  if (!forPeople) return `${JSON.stringify(settings)}\n`;
  return Object.entries(settings)
    .map(([name, outcome]) => `  ${name.padEnd(20)} ${outcome}\n`)
    .join('');
}
