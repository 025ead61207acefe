import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { StepError } from './errors.ts';
import { makeFolder } from './folders.ts';

/** Result names and what each holds: the step's promise to the engines. */
export type ResultDeclarations = Record<string, string | ListResult>;
/** A result that is a JSON array of strings: what an engine makes one task each of. */
export interface ListResult {
  description: string;
  list: true;
}
export type Results<D extends ResultDeclarations = ResultDeclarations> = { [Name in keyof D]: string };

/** Tekton takes 4,096 bytes for all results of a Task, with its own around them (TEP-0086). */
const maxBytes = 2048;

/**
 * Writes each result as `<dir>/<name>`, no line break behind it, all of them after all are known and checked.
 * Throws `bug` when they are too large for an engine or hold a line break.
 */
export async function writeResults(dir: string, results: Results): Promise<void> {
  const total = Object.entries(results).reduce((sum, [name, value]) => sum + name.length + Buffer.byteLength(value), 0);
  if (total > maxBytes) throw new StepError('bug', `failed to write results: they take ${total} bytes, over ${maxBytes}`);
  const broken = Object.keys(results).find((name) => /[\r\n]/.test(results[name] ?? ''));
  if (broken) throw new StepError('bug', `failed to write result ${broken}: it has a line break`);
  await makeFolder(dir);
  const pending = Object.entries(results).map(([name, value]) => {
    const target = join(dir, name);
    const temporary = join(dir, `.${name}.${process.pid}`);
    writeFileSync(temporary, value);
    return { temporary, target };
  });
  for (const { temporary, target } of pending) renameSync(temporary, target);
}

/** What a result holds. */
export function describeResult(result: string | ListResult): string {
  return typeof result === 'string' ? result : result.description;
}

/** The one line of JSON that stdout carries. */
export function resultLine(results: Results): string {
  return JSON.stringify(results);
}
