import type { Manifest } from '../manifest.ts';

/** How a model is made of another one. */
export interface Derivation {
  method: string;
  /** What the bytes depend on besides the method and the source: it stands in the manifest. */
  config: Record<string, unknown>;
  /** What the folder's name ends in: the method, and a digest of the config when it is not the default one. */
  suffix: string;
}

/** True when a manifest is of a model made in this way from that source (bare hex; undefined: from any). */
export function isDerivation(manifest: Manifest, { method, config }: Omit<Derivation, 'suffix'>, fromManifestSha256?: string): boolean {
  const { derived } = manifest;
  if (derived === undefined || (fromManifestSha256 !== undefined && derived.fromManifestSha256 !== fromManifestSha256)) return false;
  return derived.method === method && JSON.stringify(derived.config) === JSON.stringify(config);
}
