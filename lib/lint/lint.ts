import type { Manifest } from '../manifest.ts';
import { mapLimited } from '../transfer/pool.ts';
import { fileRules } from './files.ts';
import type { Finding, LintFile, LintModel, LintProfile } from './model.ts';
import { quantizationRules } from './quantization.ts';

/** The server that a model was selected for, as its manifest says; a part of a model is judged by what holds for every server. */
export function lintProfileOf({ selection }: Pick<Manifest, 'selection'>): LintProfile {
  return (['vllm', 'runai', 'kserve', 'ray'] as const).find((profile) => profile === selection.profile) ?? 'all';
}

/** Larger ones are read by no rule: the index of a model of 1,000 shards has 10 MB. */
const maxJsonBytes = 32 * 1024 ** 2;
const readNames = /^(.*\.index\.json|config\.json|tokenizer_config\.json|(hf_)?quant(ize)?_config\.json|recipe\.json)$/;

/**
 * Will it serve? Tells what is wrong with the files of a model, errors first. `all` asks what holds for every server; the others also what their
 * own reader demands of a prefix. `read` gives the bytes of a small file; nothing else of the model is read.
 */
export async function lintModel(
  files: readonly LintFile[],
  profile: LintProfile,
  read: (file: LintFile) => Promise<Buffer>,
): Promise<Finding[]> {
  const wanted = files.filter(({ path, size }) => readNames.test(path) && size <= maxJsonBytes);
  const contents = await mapLimited(wanted, 1, async (file) => [file.path, parse(await read(file))] as const);
  const model: LintModel = { files, json: new Map(contents) };
  const findings = [...fileRules(model, profile), ...quantizationRules(model)];
  return findings.sort((a, b) => (a.severity === b.severity ? 0 : a.severity === 'error' ? -1 : 1));
}

function parse(bytes: Buffer): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'));
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
