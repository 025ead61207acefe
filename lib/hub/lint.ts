import { type Expected, Verifier } from '../integrity.ts';
import { lintModel } from '../lint/lint.ts';
import type { Finding, LintProfile } from '../lint/model.ts';
import { type HubModel, hubBytes } from './content.ts';

/** Lints files of a model on the Hub; of those only the small JSON files are read, and checked against the listing. Throws as the Hub does. */
export async function lintHub(
  model: Pick<HubModel, 'hub' | 'source'>,
  files: readonly Expected[],
  profile: LintProfile,
  signal: AbortSignal,
): Promise<Finding[]> {
  const expected = new Map(files.map((file) => [file.path, file]));
  return await lintModel(files, profile, async ({ path, size }) => {
    const file = expected.get(path) as Expected;
    const bytes = Buffer.alloc(size);
    if (size > 0) await hubBytes(model, file).read(0, bytes, signal);
    const verifier = new Verifier(file);
    verifier.update(bytes);
    verifier.finish();
    return bytes;
  });
}
