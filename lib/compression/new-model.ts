import type { Expected } from '../integrity.ts';
import { sha256Of } from '../integrity.ts';
import { type Derived, type Manifest, makeManifest } from '../manifest.ts';
import type { Content } from '../publish/content.ts';
import { parseHeader } from '../safetensors/header.ts';
import { indexName } from '../safetensors/weight-index.ts';
import { version } from '../version.ts';
import { checkOutput } from './check.ts';
import { type Derivation, isDerivation } from './derivation.ts';
import { newFiles, type Plan } from './plan.ts';
import type { SourceModel } from './source-model.ts';

/** A model that is made while it is sent: what it will hold is known before a weight is read. */
export interface NewModel {
  plan: Plan;
  /** What it is made of. */
  model: SourceModel;
  content: Content;
  /** The small files that are written anew, by path. */
  small: ReadonlyMap<string, Buffer>;
}

/** What a manifest says of how a model was made of one whose manifest has these bytes. */
export function derivedFrom({ method, config }: Derivation, sourceBytes: Uint8Array): Derived {
  return { method, config, fromManifestSha256: sha256Of(sourceBytes) };
}

/**
 * Lays the new model out as something to publish, and holds its headers, index and ignore list against the source as a server would read them.
 * Throws `bug` when they do not agree.
 */
export async function newModelOf(plan: Plan, model: SourceModel, { source, selection }: Manifest, derived: Derived): Promise<NewModel> {
  const small = newFiles(plan, model);
  const layouts = new Map(plan.shards.map(({ shard, layout }) => [shard.path, layout]));
  await checkOutput(plan, plan.ignore, small.get(indexName) ?? Buffer.alloc(0), async (path) => {
    const { head = Buffer.alloc(8), size = 0 } = layouts.get(path) ?? {};
    return parseHeader(head.subarray(8), size, path);
  });
  const files: Expected[] = [
    ...[...layouts].map(([path, { size }]) => ({ path, size, recipe: sha256Of(JSON.stringify([version, derived, path])) })),
    ...model.others.map(({ path, size, sha256 }) => ({ path, size, sha256 })),
    ...[...small].map(([path, bytes]) => ({ path, size: bytes.length, sha256: sha256Of(bytes) })),
  ];
  const content = {
    files,
    commit: source.commit,
    // The bytes are not there yet, but they follow from the source's manifest, the method and its config: these name them.
    digest: sha256Of(JSON.stringify(derived)),
    isSame: async (published: Manifest) => isDerivation(published, derived, derived.fromManifestSha256),
    manifestOf: (brought: Manifest['files']) => makeManifest({ source, selection, files: brought, derived }),
  };
  return { plan, model, content, small };
}
