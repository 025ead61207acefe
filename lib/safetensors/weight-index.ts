import { StepError } from '../errors.ts';
import { pathFault } from '../paths.ts';
import { type Json, JsonFault, parseStrictJson } from './strict-json.ts';

/** The name under which loaders look for the index of a model in several files. */
export const indexName = 'model.safetensors.index.json';

/** Which file holds each tensor, from an index's bytes. Throws `integrity` naming `path`. */
export function parseIndex(bytes: Uint8Array, path: string): Map<string, string> {
  const fail = (why: string): never => {
    throw new StepError('integrity', `failed to read ${path}: ${why}`, {
      hint: 'run download again with --verify, with the same --workspace',
    });
  };
  let parsed: Json;
  try {
    parsed = parseStrictJson(bytes, { python: true });
  } catch (error) {
    if (error instanceof JsonFault) return fail(error.message);
    throw error;
  }
  const map = parsed instanceof Map ? parsed.get('weight_map') : undefined;
  if (!(map instanceof Map)) return fail('it has no weight_map');
  for (const [name, file] of map) {
    if (typeof file !== 'string' || pathFault(file) !== undefined) fail(`weight_map gives ${JSON.stringify(name.slice(0, 200))} no file`);
  }
  return map as Map<string, string>;
}

/** An index's bytes: keys sorted, indent 2, as the reference writes it. `totalBytes` counts tensors, not headers. */
export function indexBytes(weightMap: ReadonlyMap<string, string>, totalBytes: number): Buffer {
  const rows = [...weightMap]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, file]) => `    ${JSON.stringify(name)}: ${JSON.stringify(file)}`);
  const map = rows.length === 0 ? '{}' : `{\n${rows.join(',\n')}\n  }`;
  return Buffer.from(`{\n  "metadata": {\n    "total_size": ${totalBytes}\n  },\n  "weight_map": ${map}\n}\n`);
}
