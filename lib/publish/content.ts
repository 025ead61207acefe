import type { Expected } from '../integrity.ts';
import { contentDigest, type Manifest, type ManifestFile, sameContent } from '../manifest.ts';

/** What tells one content from another. */
export interface Named {
  /** Names the content, for the claim. */
  digest: string;
  /** True when a published manifest already says the same bytes at the same paths. */
  isSame: (published: Manifest) => Promise<boolean>;
}

/** What is to be published. A file's sha256 may become known only when its bytes pass: the Hub gives a git sha1 for small ones. */
export interface Content extends Named {
  files: readonly Expected[];
  commit: string;
  /** The manifest, once every sha256 is known. */
  manifestOf: (files: ManifestFile[]) => Manifest;
}

/** A model whose manifest is known beforehand: from a workspace. */
export function contentOf(manifest: Manifest): Content {
  return {
    files: manifest.files,
    commit: manifest.source.commit,
    digest: contentDigest(manifest),
    isSame: async (published) => sameContent(published, manifest),
    manifestOf: () => manifest,
  };
}
