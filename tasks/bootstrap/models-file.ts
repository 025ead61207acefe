import { readFile } from 'node:fs/promises';
import { messageOf, StepError } from '../../lib/errors.ts';
import { kebab, type ParamMap, schema, type ValuesOf } from '../../lib/params/declare.ts';
import { modelParams, namingParams, selectionParams } from '../../lib/params/groups/model.ts';
import { readParams } from '../../lib/params/read.ts';

const entryParams = schema({ ...modelParams, ...namingParams, ...selectionParams }, ['modelId']);

/** What one entry says; what it does not say is absent, so that what all share counts. */
export type ModelEntry = Pick<ValuesOf<typeof entryParams>, 'modelId'> & Partial<ValuesOf<typeof entryParams>>;

/**
 * Reads a list of models: a line each, `org/name` or `org/name@revision`, `#` before a comment; or a JSON array of such texts and of
 * objects with the names of flags (`{"model-id": "org/name", "model-name": "tiny"}`). Throws one `usage` error that lists every fault.
 */
export async function readModelsFile(path: string): Promise<ModelEntry[]> {
  const text = await readFile(path, 'utf8').catch((error) => {
    throw new StepError('usage', `failed to read --models-file ${path}: ${messageOf(error)}`, { cause: error });
  });
  const faults: string[] = [];
  const entries = splitEntries(text, faults).flatMap((raw, index) => {
    try {
      return [readEntry(raw)];
    } catch (error) {
      faults.push(`entry ${index + 1}: ${messageOf(error).replace(/^failed to read parameters: /, '')}`);
      return [];
    }
  });
  if (faults.length > 0) throw new StepError('usage', `failed to read --models-file ${path}: ${faults.join('; ')}`);
  return entries;
}

function splitEntries(text: string, faults: string[]): unknown[] {
  if (!text.trimStart().startsWith('[')) {
    const lines = text.split('\n').map((line) => line.replace(/(^|\s)#.*$/, '').trim());
    return lines.filter((line) => line !== '');
  }
  try {
    return JSON.parse(text) as unknown[];
  } catch (error) {
    faults.push(messageOf(error));
    return [];
  }
}

function readEntry(raw: unknown): ModelEntry {
  const given = typeof raw === 'string' ? ofLine(raw) : raw;
  if (typeof given !== 'object' || given === null || Array.isArray(given))
    throw new StepError('usage', `${JSON.stringify(raw)} is no model`);
  const argv = Object.entries(given).flatMap(([name, value]) => [`--${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`]);
  const { values } = readParams(entryParams, { argv, env: {} });
  const said = Object.keys(entryParams.properties as ParamMap).filter((name) => kebab(name) in given);
  return Object.fromEntries(Object.entries(values).filter(([name]) => said.includes(name))) as ModelEntry;
}

function ofLine(line: string): Record<string, string> {
  const [id = '', revision, ...rest] = line.split('@');
  return { 'model-id': id, ...(revision === undefined ? {} : { revision: [revision, ...rest].join('@') }) };
}
