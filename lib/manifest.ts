import { Ajv, type ValidateFunction } from 'ajv';
import { StepError } from './errors.ts';
import { sha256Of } from './integrity.ts';
import { archiveMethod } from './methods.ts';
import { pathFault } from './paths.ts';

export interface ManifestFile {
  path: string;
  /** Bytes. */
  size: number;
  /** Bare hex. */
  sha256: string;
}

/** What was asked for; equal selections of one commit are one folder and one manifest. */
export interface Selection {
  allowPatterns: readonly string[];
  ignorePatterns: readonly string[];
  profile: string;
}

export interface Derived {
  method: string;
  config: Record<string, unknown>;
  fromManifestSha256: string;
}

/** The record of one model's bytes: nothing in it changes without the bytes changing. Files are sorted by path. */
export interface Manifest {
  schemaVersion: 1;
  source: { repo: string; commit: string };
  selection: Selection;
  files: ManifestFile[];
  totalBytes: number;
  derived?: Derived;
}

const patterns = { type: 'array', items: { type: 'string' } } as const;
const digest = { type: 'string', pattern: '^[0-9a-f]{64}$' } as const;
const bytes = { type: 'integer', minimum: 0, maximum: Number.MAX_SAFE_INTEGER } as const;

/** JSON Schema of manifest.json. */
export const manifestSchema = {
  type: 'object',
  required: ['schemaVersion', 'source', 'selection', 'files', 'totalBytes'],
  additionalProperties: false,
  properties: {
    schemaVersion: { const: 1 },
    source: {
      type: 'object',
      required: ['repo', 'commit'],
      additionalProperties: false,
      properties: { repo: { type: 'string', minLength: 1 }, commit: { type: 'string', pattern: '^[0-9a-f]{40}$' } },
    },
    selection: {
      type: 'object',
      required: ['allowPatterns', 'ignorePatterns', 'profile'],
      additionalProperties: false,
      properties: { allowPatterns: patterns, ignorePatterns: patterns, profile: { type: 'string' } },
    },
    files: {
      type: 'array',
      minItems: 1,
      items: {
        type: 'object',
        required: ['path', 'size', 'sha256'],
        additionalProperties: false,
        properties: { path: { type: 'string', minLength: 1 }, size: bytes, sha256: digest },
      },
    },
    totalBytes: bytes,
    derived: {
      type: 'object',
      required: ['method', 'config', 'fromManifestSha256'],
      additionalProperties: false,
      properties: { method: { type: 'string', minLength: 1 }, config: { type: 'object' }, fromManifestSha256: digest },
    },
  },
} as const;

let compiled: ValidateFunction<Manifest> | undefined;

/** Builds a manifest: sorts the files by path (by code unit, so that every machine sorts alike) and sums them up. */
export function makeManifest(parts: Pick<Manifest, 'source' | 'selection' | 'files' | 'derived'>): Manifest {
  const files = parts.files
    .map(({ path, size, sha256 }) => ({ path, size, sha256 }))
    .sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
  const { allowPatterns, ignorePatterns, profile } = parts.selection;
  return {
    schemaVersion: 1,
    source: { repo: parts.source.repo, commit: parts.source.commit },
    selection: { allowPatterns: [...allowPatterns], ignorePatterns: [...ignorePatterns], profile },
    files,
    totalBytes: files.reduce((sum, file) => sum + file.size, 0),
    ...(parts.derived ? { derived: parts.derived } : {}),
  };
}

/** The manifest's bytes: equal manifests give equal bytes everywhere. */
export function manifestBytes(manifest: Manifest): Buffer {
  return Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`);
}

/** sha256 of the manifest's bytes, bare hex: one name for the model on the volume, in the store and in the registry. */
export function manifestSha256(manifest: Manifest): string {
  return sha256Of(manifestBytes(manifest));
}

/**
 * Reads a manifest. Throws `integrity` when it does not match its schema, its own sums, or the digest that was asked for;
 * `where` names it in the message.
 */
export function parseManifest(raw: Uint8Array, where: string, expectedSha256?: string): Manifest {
  const refuse = (why: string) =>
    new StepError('integrity', `failed to read manifest ${where}: ${why}`, { hint: 'run the step that wrote it again' });
  const found = sha256Of(raw);
  if (expectedSha256 !== undefined && found !== expectedSha256) throw refuse(`its sha256 is ${found}, expected ${expectedSha256}`);
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(raw).toString('utf8'));
  } catch {
    throw refuse('it is no JSON');
  }
  // Tests say that the schema itself is one.
  compiled ??= new Ajv({ allErrors: true, validateSchema: false, meta: false, code: { optimize: false } }).compile<Manifest>(
    manifestSchema,
  );
  const check = compiled;
  if (!check(value)) throw refuse((check.errors ?? []).map((e) => `${e.instancePath || 'it'} ${e.message}`).join('; '));
  const faults = value.files.map((file) => pathFault(file.path)).filter((fault) => fault !== undefined);
  if (faults.length > 0) throw refuse(faults.join('; '));
  const paths = new Set(value.files.map((file) => file.path));
  if (paths.size !== value.files.length) throw refuse('a path stands in it twice');
  if (value.totalBytes !== value.files.reduce((sum, file) => sum + file.size, 0)) throw refuse('totalBytes is not the sum of its files');
  return value;
}

/** True when both name the same bytes at the same paths, made in the same way (design section 6); archives, when the same is in them. */
export function sameContent(a: Manifest, b: Manifest): boolean {
  return contentDigest(a) === contentDigest(b);
}

/** Names a manifest's content: equal `files` and `derived` give an equal digest (bare hex). An archive's own bytes may differ with the release of zstd. */
export function contentDigest({ files, derived }: Manifest): string {
  const told = derived?.method === archiveMethod ? [] : files;
  return sha256Of(JSON.stringify([told.map(({ path, size, sha256 }) => [path, size, sha256]), derived ?? null]));
}
