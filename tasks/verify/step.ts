import { defineStep } from '../../lib/define-step.ts';
import { StepError } from '../../lib/errors.ts';
import { sha256Of } from '../../lib/integrity.ts';
import type { FileFault } from '../../lib/local/check.ts';
import { chosenSource, namesStore, withBucketOfUri } from '../../lib/model-uri.ts';
import { openStore } from '../../lib/open-store.ts';
import { checkLocal, localTarget, repairLocal } from './local.ts';
import { params } from './params.ts';
import { checkStore, publishedTarget, repairStore } from './published.ts';

export const verify = defineStep({
  name: 'verify',
  summary: 'Compares a model here or in the store with its manifest, and mends it if asked.',
  params,
  results: {
    'manifest-sha256': 'sha256 of manifest.json, bare hex.',
    'file-count': 'Number of files.',
    'total-bytes': 'Bytes of all files.',
    repaired: 'Number of faults that were mended.',
  },
  async run(params, ctx) {
    const { modelUri, modelDir, deep, repair } = params;
    const named = (modelUri ?? params.modelId ?? params.modelName) !== undefined;
    const source = chosenSource(params.source, ['hub', 'both'], namesStore(params) && named && modelDir === undefined);
    const mend = repair && !ctx.dryRun;
    if (source === 's3') {
      if (!named) throw new StepError('usage', 'failed to read parameters: one of --model-uri, --model-name and --model-id must be given');
      const store = openStore(withBucketOfUri(params), ctx);
      const found = await publishedTarget(store, params, ctx);
      const { faults, readBytes } = await checkStore(store, found, params, ctx);
      const where = `${store.uri}/${found.prefix}/`;
      tell(where, faults, ctx.log);
      if (faults.length > 0 && !mend) throw notRight(where, faults, true);
      if (faults.length > 0) {
        await repairStore(store, found, faults, params, ctx);
        const after = await checkStore(store, found, params, ctx);
        if (after.faults.length > 0) throw notRight(where, after.faults, true);
      }
      ctx.log.info({ uri: where, files: found.manifest.files.length, readBytes, repaired: faults.length }, 'the model is right');
      return results(found, faults.length);
    }
    const target = await localTarget(params);
    const faults = await checkLocal(target, deep, ctx);
    tell(target.files, faults, ctx.log);
    const mended = faults.length > 0 && mend ? await repairLocal(target, faults, params, ctx) : [];
    const left = faults.filter((fault) => !mended.includes(fault));
    if (left.length > 0) throw notRight(target.files, left, target.named);
    ctx.log.info({ folder: target.files, files: target.manifest.files.length, repaired: mended.length }, 'the model is right');
    return results(target, mended.length);
  },
});

function results({ manifest, bytes }: { manifest: { files: readonly unknown[]; totalBytes: number }; bytes: Buffer }, repaired: number) {
  return {
    'manifest-sha256': sha256Of(bytes),
    'file-count': String(manifest.files.length),
    'total-bytes': String(manifest.totalBytes),
    repaired: String(repaired),
  };
}

/** Each fault is a line of the log: an error that names thousands would be read by nobody. */
function tell(where: string, faults: readonly FileFault[], log: { warn: (fields: object, text: string) => void }): void {
  for (const { path, fault, text } of faults) log.warn({ where, path, fault }, `${path} ${text}`);
}

/** `kept`: a repair leaves what does not belong there, because others may have put it there. */
function notRight(where: string, faults: readonly FileFault[], kept: boolean): StepError {
  const shown = faults.slice(0, 20).map(({ path, text }) => `${path} ${text}`);
  const more = faults.length > shown.length ? ` and ${faults.length - shown.length} more` : '';
  return new StepError('integrity', `failed to verify ${where}: ${shown.join(', ')}${more}`, {
    hint:
      kept && faults.every(({ fault }) => fault === 'extra')
        ? 'move away what does not belong there: --repair leaves it to you'
        : '--repair brings back what is missing or wrong',
  });
}
