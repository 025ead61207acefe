import { Ajv } from 'ajv';
import { StepError } from '../errors.ts';
import { type Expected, sha256Of } from '../integrity.ts';
import { type Manifest, makeManifest, type Selection } from '../manifest.ts';
import { modelParams } from '../params/groups/model.ts';
import { policyParams } from '../params/groups/policy.ts';
import { checkPaths } from '../paths.ts';
import type { JoinedPlan } from '../publish/claim-options.ts';
import type { Content } from '../publish/content.ts';
import { byPath } from './cut.ts';

/** One sync, cut into shards for many pods. Equal parameters on an equal commit give equal bytes, so that a plan made again is the same. */
export interface Plan {
  schemaVersion: 1;
  source: Manifest['source'];
  selection: Selection;
  prefix: string;
  versionsPrefix?: string | undefined;
  /** Prefixes that shards look into first for files to copy. Not what was found there: that changes, and a plan made again is to be the same. */
  copyFrom?: readonly string[] | undefined;
  /** How shards judge the files that they bring: plan looked before, but a server may show other bytes to whoever looks than to whoever takes. */
  allowUnsafe?: (typeof policyParams.allowUnsafe.enum)[number] | undefined;
  replace: boolean;
  rayHash: boolean;
  /** ms that the target is held while no pod of the plan runs. */
  holdMs: number;
  runId?: string | undefined;
  /** The files of each shard, with what their bytes must be. */
  shards: Expected[][];
}

const schema = {
  type: 'object',
  required: ['schemaVersion', 'source', 'selection', 'prefix', 'replace', 'rayHash', 'holdMs', 'shards'],
  properties: {
    schemaVersion: { const: 1 },
    source: {
      type: 'object',
      required: ['repo', 'commit'],
      // Addresses on the Hub are made of them.
      properties: {
        repo: { type: 'string', pattern: modelParams.modelId.pattern },
        commit: { type: 'string', pattern: '^[0-9a-f]{40}$' },
      },
    },
    selection: {
      type: 'object',
      required: ['allowPatterns', 'ignorePatterns', 'profile'],
      properties: {
        allowPatterns: { type: 'array', items: { type: 'string' } },
        ignorePatterns: { type: 'array', items: { type: 'string' } },
        profile: { type: 'string' },
      },
    },
    prefix: { type: 'string', minLength: 1 },
    versionsPrefix: { type: 'string' },
    allowUnsafe: { enum: policyParams.allowUnsafe.enum },
    copyFrom: { type: 'array', items: { type: 'string', minLength: 1 } },
    runId: { type: 'string' },
    replace: { type: 'boolean' },
    rayHash: { type: 'boolean' },
    holdMs: { type: 'integer', minimum: 0 },
    shards: {
      type: 'array',
      minItems: 1,
      items: {
        type: 'array',
        minItems: 1,
        items: {
          type: 'object',
          required: ['path', 'size'],
          properties: {
            path: { type: 'string' },
            size: { type: 'integer', minimum: 0, maximum: Number.MAX_SAFE_INTEGER },
            sha256: { type: 'string', pattern: '^[0-9a-f]{64}$' },
            gitSha1: { type: 'string', pattern: '^[0-9a-f]{40}$' },
          },
          anyOf: [{ required: ['sha256'] }, { required: ['gitSha1'] }],
        },
      },
    },
  },
} as const;

/** The bytes of a plan's record. */
export function planBytes(plan: Plan): Buffer {
  const { source, selection, prefix, versionsPrefix, copyFrom = [], allowUnsafe, replace, rayHash, holdMs, runId, shards } = plan;
  const files = (list: readonly Expected[]) => list.map(({ path, size, sha256, gitSha1 }) => ({ path, size, sha256, gitSha1 }));
  const { allowPatterns, ignorePatterns, profile } = selection;
  const record: Plan = {
    schemaVersion: 1,
    source: { repo: source.repo, commit: source.commit },
    selection: { allowPatterns, ignorePatterns, profile },
    prefix,
    versionsPrefix,
    ...(copyFrom.length > 0 ? { copyFrom } : {}),
    allowUnsafe,
    replace,
    rayHash,
    holdMs,
    runId,
    shards: shards.map(files),
  };
  return Buffer.from(`${JSON.stringify(record, null, 1)}\n`);
}

/** Reads a plan's record; `where` names it. Throws `integrity` when it is none, and `refused` when its paths must not be used. */
export function parsePlan(raw: Uint8Array, where: string): Plan {
  const refuse = (why: string) =>
    new StepError('integrity', `failed to read plan ${where}: ${why}`, { hint: 'abandon it and make it again' });
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(raw).toString('utf8'));
  } catch {
    throw refuse('it is no JSON');
  }
  // No strictRequired and strictTypes: `anyOf` only says which of the properties above must be there.
  const ajv = new Ajv({ allErrors: true, strictRequired: false, strictTypes: false });
  const check = ajv.compile<Plan>(schema);
  if (!check(value)) throw refuse((check.errors ?? []).map((e) => `${e.instancePath || 'it'} ${e.message}`).join('; '));
  checkPaths(value.shards.flat().map((file) => file.path));
  return value;
}

/** A plan that was read: with the digest that its claim and its shards' reports name. */
export interface ReadPlan {
  plan: Plan;
  key: string;
  sha256: string;
}

/** Puts a plan and its digest together. */
export function readPlan(bytes: Uint8Array, key: string, where: string): ReadPlan {
  return { plan: parsePlan(bytes, where), key, sha256: sha256Of(bytes) };
}

/** As the prefix's claim knows it. */
export function joined({ plan, key, sha256 }: ReadPlan): JoinedPlan {
  return { key, sha256, holdMs: plan.holdMs };
}

/** Same for every process of a plan. */
export function runIdOf({ plan, sha256 }: ReadPlan): string {
  return plan.runId ?? sha256;
}

/** All files of a plan, by path. */
export function filesOf(plan: Plan): Expected[] {
  return plan.shards.flat().sort(byPath);
}

/** A plan as something to publish, without asking the Hub: what another commit's files are is not known then. */
export function planContent({ source, selection, shards }: Plan, sha256: string): Content {
  const asked = (value: Selection) => JSON.stringify([value.allowPatterns, value.ignorePatterns, value.profile]);
  return {
    files: shards.flat().sort(byPath),
    commit: source.commit,
    digest: sha256,
    isSame: async (published) =>
      published.derived === undefined &&
      published.source.repo === source.repo &&
      published.source.commit === source.commit &&
      asked(published.selection) === asked(selection),
    manifestOf: (files) => makeManifest({ source, selection, files }),
  };
}
