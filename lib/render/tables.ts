import type { Step } from '../define-step.ts';
import { type ErrorKind, exitCodes, StepError } from '../errors.ts';
import { envName, kebab, type Param } from '../params/declare.ts';
import { describeResult } from '../results.ts';
import { defaultText } from './wiring.ts';

const meanings: Record<ErrorKind, string> = {
  bug: 'a bug of modelferry',
  usage: 'wrong parameters: all of them are listed, nothing was touched',
  'not-found': 'model, revision, bucket or file is not there',
  denied: 'no permission, or the model is gated',
  transient: 'network or server trouble: a retry may help and goes on where this run ended',
  integrity: 'bytes are not what was promised',
  refused: 'in conflict with what is published, or no space, or unsafe files',
  terminated: 'ended by SIGTERM; a rerun goes on where this run ended',
};

/** The blocks that README.md carries between its markers, by marker name. */
export function renderTables(steps: readonly Step[]): Record<string, string> {
  return { steps: stepTable(steps), parameters: paramTables(steps), results: resultTable(steps), 'exit-codes': exitCodeTable() };
}

/**
 * Puts each block between `<!-- generated:NAME -->` and `<!-- /generated:NAME -->`; what stands there before is replaced.
 * Throws `usage` when a marker has no block, or a block's markers are not there.
 */
export function fillMarkers(text: string, blocks: Readonly<Record<string, string>>): string {
  const seen = new Set<string>();
  const filled = text.replace(
    /(<!-- generated:([a-z-]+) -->\n)[\s\S]*?(<!-- \/generated:\2 -->)/g,
    (_, start: string, name: string, end: string) => {
      const block = blocks[name];
      if (block === undefined) throw new StepError('usage', `failed to fill marker ${name}: no such block`);
      seen.add(name);
      return `${start}\n${block.trimEnd()}\n\n${end}`;
    },
  );
  const missing = Object.keys(blocks).filter((name) => !seen.has(name));
  if (missing.length > 0) throw new StepError('usage', `failed to fill markers: ${missing.join(', ')} have none in the text`);
  return filled;
}

function stepTable(steps: readonly Step[]): string {
  return table(
    ['step', 'does'],
    steps.map(({ name, aliases, summary }) => [[name, ...aliases].map(code).join(', '), summary]),
  );
}

interface ParamRow {
  name: string;
  param: Param;
  steps: Step[];
}

/** One table per group; a parameter that steps declare alike stands there once. */
function paramTables(steps: readonly Step[]): string {
  const groups = new Map<string, Map<string, ParamRow>>();
  for (const step of steps) {
    for (const [name, param] of Object.entries(step.params.properties)) {
      const heading = param['x-group'] ?? `Only ${shortName(step)}`;
      const rows = groups.get(heading) ?? groups.set(heading, new Map()).get(heading)!;
      const key = JSON.stringify([name, param]);
      const row = rows.get(key) ?? rows.set(key, { name, param, steps: [] }).get(key)!;
      row.steps.push(step);
    }
  }
  return [...groups]
    .map(([heading, rows]) => {
      const every = steps.filter((step) => [...rows.values()].some((row) => row.steps.includes(step)));
      const which = heading.startsWith('Only ') ? undefined : whichOf(every, steps, 'all but');
      return `**${heading}**${which === undefined ? '' : ` (${which})`}\n\n${table(
        ['flag', 'environment', 'default', ''],
        [...rows.values()].map((row) => paramCells(row, every)),
      )}`;
    })
    .join('\n');
}

function paramCells({ name, param, steps }: ParamRow, every: readonly Step[]): string[] {
  const names = [envName(name), ...(param['x-env'] ?? []), ...(param['x-file-env'] ?? [])];
  const fallback = defaultText(param);
  const needing = steps.filter((step) => step.params.required.includes(name));
  const which = whichOf(steps, every, 'not');
  const notes = [
    param.description.replace(/\s*\n\s*/g, ' '),
    ...(param.enum ? [`One of ${param.enum.map(code).join(' ')}.`] : []),
    ...(needing.length === 0 ? [] : [needing.length === steps.length ? 'Needed.' : `Needed by ${listed(needing)}.`]),
    ...(which === undefined ? [] : [`(${which})`]),
  ];
  return [
    param['x-secret'] ? 'none: secret' : code(`--${kebab(name)}`),
    names.map(code).join(' '),
    fallback === '' ? '' : code(fallback),
    notes.join(' '),
  ];
}

/** Names some of the steps, or those that are missing where they are fewer; undefined when it is all of them. */
function whichOf(some: readonly Step[], all: readonly Step[], but: string): string | undefined {
  const missing = all.filter((step) => !some.includes(step));
  if (missing.length === 0) return undefined;
  return missing.length < some.length ? `${but} ${listed(missing)}` : listed(some);
}

function listed(steps: readonly Step[]): string {
  return steps.map(shortName).join(', ');
}

function shortName({ name, aliases }: Step): string {
  return [name, ...aliases].reduce((a, b) => (b.length < a.length ? b : a));
}

function resultTable(steps: readonly Step[]): string {
  const results = new Map<string, { name: string; description: string; steps: Step[] }>();
  for (const step of steps) {
    for (const [name, result] of Object.entries(step.results)) {
      const description = describeResult(result);
      const key = JSON.stringify([name, description]);
      const row = results.get(key) ?? results.set(key, { name, description, steps: [] }).get(key)!;
      row.steps.push(step);
    }
  }
  return table(
    ['result', 'of', ''],
    [...results.values()].map(({ name, description, steps: some }) => [code(name), listed(some), description]),
  );
}

function exitCodeTable(): string {
  const rows = Object.entries(exitCodes).map(([kind, exitCode]) => [String(exitCode), meanings[kind as ErrorKind]]);
  return table(['code', 'meaning'], [['0', 'done'], ...rows]);
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return `${[line(head), `|${' --- |'.repeat(head.length)}`, ...rows.map(line)].join('\n')}\n`;
}

function code(text: string): string {
  return `\`${text}\``;
}
