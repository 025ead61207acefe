import { sha256Of } from '../integrity.ts';
import type { publishResults } from '../params/results.ts';
import { type ManifestResults, manifestResultsOf } from '../pass-on.ts';
import type { Results } from '../results.ts';
import { archiveIn } from './archive.ts';
import type { PublishOutcome } from './claimed.ts';

/** The results of a step that publishes with no workspace (design section 5). `manifest` is the manifest's key in the store. */
export function publishedResults(outcome: PublishOutcome, uri: string, manifest: string) {
  return withOutcome(manifestResultsOf(manifest, outcome.manifest, outcome.bytes), outcome, uri);
}

/** The results of a step that publishes, with those of its manifest. */
export function withOutcome(results: ManifestResults, { manifest, bytes, ...outcome }: PublishOutcome, uri: string) {
  return {
    ...results,
    'model-uri': uri,
    'uploaded-bytes': String(outcome.uploadedBytes),
    'copied-bytes': String(outcome.copiedBytes),
    unchanged: String(outcome.unchanged),
    'model-ARTIFACT_URI': uri,
    'model-ARTIFACT_DIGEST': `sha256:${archiveIn(manifest)?.sha256 ?? sha256Of(bytes)}`,
  } satisfies Results<typeof publishResults>;
}
