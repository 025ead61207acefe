import yargs from 'yargs';
import { envName, kebab, type Param, type ParamMap } from './declare.ts';

/** What each flag was given, by parameter name; the last word of a flag that takes one value is the only one. */
export type Flags = Record<string, string[] | undefined>;

/**
 * Reads flags as strings only: yargs's own types would make any word but "true" false, and numbers out of commits.
 * Adds a fault for each unknown flag, stray word and repeated flag.
 */
export function parseFlags(properties: ParamMap, argv: readonly string[], faults: string[]): Flags {
  const open = flagged(properties);
  const parsed = parser(properties).parseSync(spellOutBooleans(open, argv)) as Record<string, unknown>;
  const names = new Map(Object.keys(open).map((name) => [kebab(name), name]));
  const flags: Flags = {};
  for (const [key, value] of Object.entries(parsed)) {
    const name = names.get(key);
    if (name !== undefined) {
      const words = [value]
        .flat()
        .filter((word) => word !== undefined)
        .map(String);
      if (words.length > 1 && open[name]?.type !== 'array') faults.push(`--${key} is given ${words.length} times`);
      if (words.length > 0) flags[name] = words;
    } else if (key === '_') {
      for (const word of value as unknown[]) faults.push(`unexpected word ${shownWord(String(word))}`);
    } else if (key !== '$0' && key !== 'help' && key !== 'version') faults.push(`unknown flag ${key.length === 1 ? '-' : '--'}${key}`);
  }
  return flags;
}

/** A token of the Hub that was given where none is taken is not told to every reader of the log as well. */
function shownWord(word: string): string {
  return /^(hf|api_org)_/.test(word) ? '**redacted** (a token goes into HF_TOKEN)' : JSON.stringify(word);
}

/** The text that --help prints. */
export async function helpText(command: string, summary: string, properties: ParamMap, required: readonly string[]): Promise<string> {
  const instance = silent().scriptName(command).usage(`${summary}\n\nUsage: ${command} [flags]`).wrap(110);
  instance
    .option('help', { type: 'boolean', description: 'Print this.' })
    .option('version', { type: 'boolean', description: 'Print the version.' });
  for (const [name, param] of Object.entries(flagged(properties))) {
    instance.option(kebab(name), {
      type: shownTypes[param.type],
      group: `${param['x-group'] ?? 'This step'}:`,
      description: `${param.description.replace(/\s+/g, ' ')}${required.includes(name) ? ' [required]' : ''}${shownDefault(param)} [${envName(name)}]`,
      ...(param.enum ? { choices: param.enum } : {}),
    });
  }
  const secrets = Object.entries(properties).filter(([, param]) => param['x-secret']);
  if (secrets.length > 0) {
    const names = secrets.map(([name, param]) => [envName(name), ...(param['x-env'] ?? [])].join(', '));
    instance.epilogue(`Secrets, from the environment only (or <NAME>_FILE names a file): ${names.join('; ')}`);
  }
  return instance.getHelp();
}

const shownTypes = { string: 'string', integer: 'number', boolean: 'boolean', array: 'array' } as const;

function shownDefault(param: Param): string {
  if (param.default === undefined || param.default === false || (Array.isArray(param.default) && param.default.length === 0)) return '';
  return ` (${String(param.default)})`;
}

/** Secrets have no flag: an argv is readable for every process of the machine. */
function flagged(properties: ParamMap): ParamMap {
  return Object.fromEntries(Object.entries(properties).filter(([, param]) => !param['x-secret']));
}

function parser(properties: ParamMap) {
  const string = Object.keys(flagged(properties)).map(kebab);
  return silent().string(string).parserConfiguration({
    'camel-case-expansion': false,
    'dot-notation': false,
    'boolean-negation': false,
    'parse-numbers': false,
    'parse-positional-numbers': false,
    'duplicate-arguments-array': true,
    'short-option-groups': false,
  });
}

/** `--replace` is `--replace=true`, `--no-replace` is `--replace=false`. */
function spellOutBooleans(properties: ParamMap, argv: readonly string[]): string[] {
  const booleans = new Set(
    Object.entries(properties)
      .filter(([, param]) => param.type === 'boolean')
      .map(([name]) => kebab(name)),
  );
  return argv.map((word, index) => {
    const [, no, name] = /^--(no-)?([a-z0-9-]+)$/.exec(word) ?? [];
    if (name === undefined || !booleans.has(name)) return word;
    if (no) return `--${name}=false`;
    return ['true', 'false', ''].includes(argv[index + 1] ?? '-') ? word : `${word}=true`;
  });
}

/** yargs without its own --help, --version and exits. */
function silent() {
  return yargs([]).locale('en').help(false).version(false).exitProcess(false);
}
