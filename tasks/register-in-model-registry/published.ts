import type { StepContext } from '../../lib/define-step.ts';
import { messageOf, StepError } from '../../lib/errors.ts';
import { sha256Of } from '../../lib/integrity.ts';
import { type Manifest, parseManifest } from '../../lib/manifest.ts';
import type { ModelPlace } from '../../lib/publish/model-place.ts';
import type { Place } from './place.ts';

/** What is known once the model is published. */
export interface Published {
  manifest: Manifest;
  /** Of the published manifest's bytes. */
  sha256: string;
  /** source.json as it was published; undefined when there is none. */
  source: Buffer | undefined;
  /** README.md of the model, when it is among the files and not out of all measure. */
  readme: Buffer | undefined;
}

const maxReadmeBytes = 4 * 1024 ** 2;

/**
 * Reads what is published at a place of the store. Throws `not-found` when nothing is, `integrity` when the manifest is not the one that was
 * asked for; what only decorates the record may be missing.
 */
export async function readPublished(
  place: Place,
  { path, keys }: ModelPlace,
  { manifestSha256 }: { manifestSha256?: string | undefined },
  { signal, log }: Pick<StepContext, 'signal' | 'log'>,
): Promise<Published> {
  const bytes = await place.get(keys.manifest);
  if (bytes === undefined) {
    throw new StepError('not-found', `failed to register ${place.uri}/${path}: it is not published (${keys.manifest} is missing)`, {
      hint: 'run upload first, with the same store, --key-template and --control-prefix',
    });
  }
  const manifest = parseManifest(bytes, `${place.uri}/${keys.manifest}`, manifestSha256);
  const optional = async (key: string) =>
    await place.get(key).catch((error) => {
      signal.throwIfAborted();
      log.warn({ key, error: messageOf(error) }, 'not read: the registry will say less of the model');
      return undefined;
    });
  const readme = manifest.files.find((file) => file.path === 'README.md');
  return {
    manifest,
    sha256: sha256Of(bytes),
    source: await optional(keys.source),
    readme: readme && readme.size <= maxReadmeBytes ? await optional(`${path}README.md`) : undefined,
  };
}
