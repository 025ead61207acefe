import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv';
import { messageOf, StepError } from '../errors.ts';
import { parseBytes, parseDuration } from '../units.ts';
import { envName, kebab, type Param, type ParamMap, type ParamSchema, type ParamValues } from './declare.ts';
import { parseFlags } from './flags.ts';

export interface ParamSources {
  /** Words behind the program's (and the step's) name. */
  argv: readonly string[];
  env: Readonly<Record<string, string | undefined>>;
  /** `KEY=value` pairs of an env file: used where the environment has nothing. */
  envFile?: Readonly<Record<string, string | undefined>>;
  /** Told each secret as soon as it is found: before a fault is told in whose words it may stand. */
  onSecret?: (secret: string) => void;
  /** Faults of parameters that are right one by one: what does not go together, what one of several must give. */
  faultsOf?: (given: never) => readonly string[];
}

export interface ReadParams<Map extends ParamMap, Required extends string> {
  values: ParamValues<Map, Required>;
}

/**
 * Reads a step's parameters: flag, else environment (own name, then the names people already have), else credentials folder,
 * else default. `""` is "not given". Throws one `usage` error that lists every fault; nothing has been touched by then.
 */
export function readParams<const Map extends ParamMap, const Required extends string>(
  declared: ParamSchema<Map, Required>,
  sources: ParamSources,
): ReadParams<Map, Required> {
  const faults: string[] = [];
  const flags = parseFlags(declared.properties, sources.argv, faults);
  const env = (name: string) => sources.env[name] || sources.envFile?.[name] || undefined;
  const credentialsDir = flags.s3CredentialsDir?.[0] || env('S3_CREDENTIALS_DIR');
  const given: Record<string, unknown> = {};
  const origin: Record<string, string> = {};
  for (const [name, param] of Object.entries(declared.properties)) {
    const found = find(name, param, flags[name], env, credentialsDir, faults);
    if (found === undefined) continue;
    origin[name] = found.from;
    given[name] = param.type === 'array' ? splitList(found.words) : wordFor(param, found.words[0]);
    if (!param['x-secret']) continue;
    for (const word of found.words) {
      sources.onSecret?.(word);
      // Node sends no header with it: found out there, it would pass for a bug of ours.
      if (/[^\t\x20-\x7e\x80-\xff]/.test(word)) faults.push(`${found.from}: it holds line breaks or other signs that no header can carry`);
    }
  }
  validate(declared, given, origin, faults);
  for (const [name, param] of Object.entries(declared.properties)) convertUnit(name, param, given, origin, faults);
  faults.push(...(sources.faultsOf?.(given as never) ?? []));
  if (faults.length > 0) {
    throw new StepError('usage', `failed to read parameters: ${faults.join('; ')}`, { hint: 'see --help for every parameter' });
  }
  return { values: given as ParamValues<Map, Required> };
}

interface Found {
  words: string[];
  /** How the user named it: `--model-id` or `MODEL_ID`. */
  from: string;
}

function find(
  name: string,
  param: Param,
  flag: string[] | undefined,
  env: (name: string) => string | undefined,
  credentialsDir: string | undefined,
  faults: string[],
): Found | undefined {
  const words = flag?.filter((word) => word !== '');
  if (words?.length) return { words, from: `--${kebab(name)}` };
  const names = [envName(name), ...(param['x-env'] ?? [])];
  for (const each of names) {
    // A secret's last line break comes with it from `kubectl create secret --from-file` and `echo`, into the environment too.
    const value = param['x-secret'] ? env(each)?.trim() : env(each);
    if (value) return { words: [value], from: each };
  }
  const files = param['x-secret'] ? names.map((each) => `${each}_FILE`).concat(param['x-file-env'] ?? []) : [];
  for (const each of files) {
    const path = env(each);
    if (path === undefined) continue;
    const value = readValue(path, (error) => faults.push(`${each}: ${messageOf(error)}`));
    if (value) return { words: [value], from: each };
  }
  if (param['x-credentials-dir'] && credentialsDir) {
    for (const each of names) {
      const value = readValue(join(credentialsDir, each), (error) => {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') faults.push(`${each} in --s3-credentials-dir: ${messageOf(error)}`);
      });
      if (value) return { words: [value], from: `${each} in --s3-credentials-dir` };
    }
  }
  return undefined;
}

/** A secret in a file mostly has a line break behind it that does not belong to it. */
function readValue(path: string, onError: (error: unknown) => void): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (error) {
    onError(error);
    return undefined;
  }
}

/** A JSON array, or words split by spaces or commas. */
function splitList(words: readonly string[]): string[] {
  return words.flatMap((text) => {
    const parsed = text.trim().startsWith('[') ? tryJson(text) : undefined;
    if (Array.isArray(parsed)) return parsed.map(String).filter((word) => word !== '');
    return text.split(/[\s,]+/).filter((word) => word !== '');
  });
}

function wordFor(param: Param, word: string | undefined): string | undefined {
  return param['x-words']?.[word ?? ''] ?? word;
}

function tryJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** A schema is compiled once: that takes longer than all else here. */
const compiled = new WeakMap<ParamSchema, ValidateFunction>();

function compile(declared: ParamSchema): ValidateFunction {
  // That the schema itself is one is for tests to say: finding it out takes half of a program's start.
  const ajv = new Ajv({
    allErrors: true,
    coerceTypes: true,
    useDefaults: true,
    strict: true,
    validateSchema: false,
    meta: false,
    code: { optimize: false },
  });
  ajv.addVocabulary(['x-env', 'x-words', 'x-file-env', 'x-secret', 'x-unit', 'x-credentials-dir', 'x-local', 'x-group', 'x-shape']);
  const check = ajv.compile(structuredClone(declared));
  compiled.set(declared, check);
  return check;
}

function validate(declared: ParamSchema, given: Record<string, unknown>, origin: Record<string, string>, faults: string[]): void {
  const check = compiled.get(declared) ?? compile(declared);
  if (check(given)) return;
  for (const error of check.errors ?? []) faults.push(fault(declared, error, given, origin));
}

function fault(declared: ParamSchema, error: ErrorObject, given: Record<string, unknown>, origin: Record<string, string>): string {
  if (error.keyword === 'required') {
    const name = String(error.params.missingProperty);
    const param = declared.properties[name];
    return `--${kebab(name)} is missing (or ${[envName(name), ...(param?.['x-env'] ?? [])].join(', ')} in the environment)`;
  }
  const name = error.instancePath.split('/')[1] ?? '';
  const param = declared.properties[name];
  const shown = param?.['x-secret'] ? '**redacted**' : JSON.stringify(given[name]);
  const wanted = param?.enum
    ? `is none of ${param.enum.join(', ')}`
    : error.keyword === 'pattern' && param?.['x-shape']
      ? `is not ${param['x-shape']}`
      : `${error.message ?? 'is wrong'}`;
  return `${origin[name] ?? name}: ${shown} ${wanted}`;
}

function convertUnit(name: string, param: Param, given: Record<string, unknown>, origin: Record<string, string>, faults: string[]): void {
  const unit = param['x-unit'];
  const text = given[name];
  if (unit === undefined || typeof text !== 'string') return;
  const value = unit === 'bytes' ? parseBytes(text) : parseDuration(text);
  if (value === undefined || value <= 0) {
    const example = unit === 'bytes' ? '64MiB' : '30s';
    faults.push(`${origin[name] ?? name}: ${JSON.stringify(text)} is no quantity above 0 such as ${example}`);
  } else given[name] = value;
}
