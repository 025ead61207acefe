import { sha256Of } from '../integrity.ts';
import type { publishResults } from '../params/results.ts';
import type { Results } from '../results.ts';
import type { PublishOutcome } from './claimed.ts';

/** The results of a step that publishes with no workspace (design section 5). `manifest` is the manifest's key in the store. */
export function publishedResults({ manifest: published, bytes, ...outcome }: PublishOutcome, uri: string, manifest: string) {
  const sha256 = sha256Of(bytes);
  return {
    manifest,
    'manifest-sha256': sha256,
    commit: published.source.commit,
    'file-count': String(published.files.length),
    'total-bytes': String(published.totalBytes),
    'model-uri': uri,
    'uploaded-bytes': String(outcome.uploadedBytes),
    'copied-bytes': String(outcome.copiedBytes),
    unchanged: String(outcome.unchanged),
    'model-ARTIFACT_URI': uri,
    'model-ARTIFACT_DIGEST': `sha256:${sha256}`,
  } satisfies Results<typeof publishResults>;
}
