import { existsSync, readFileSync } from 'node:fs';
import { parseEnv } from 'node:util';
import { exitCodes, kindOf, messageOf, oneLine, StepError } from './errors.ts';
import { createLog, type Log, Redactor, writeLine } from './log.ts';
import { closeNetwork, setUpNetwork } from './network.ts';
import { envName, kebab, type ParamMap, type ParamSchema, type ParamValues, schema } from './params/declare.ts';
import { helpText } from './params/flags.ts';
import { commonParams } from './params/groups.ts';
import { readParams } from './params/read.ts';
import { Progress } from './progress.ts';
import { type ResultDeclarations, type Results, resultLine, writeResults } from './results.ts';
import { version } from './version.ts';

/** What a step's `run` works with besides its parameters. */
export interface StepContext {
  log: Log;
  /** Aborted by SIGTERM and SIGINT: flush what makes a rerun cheap, then let the abort through. */
  signal: AbortSignal;
  progress: Progress;
  dryRun: boolean;
  /** Puts text on stdout: for steps whose product is text, and for dry runs. */
  print: (text: string) => void;
  /** True when a person reads stdout. */
  terminal: boolean;
  /** Asks the person at the terminal, yes or no; undefined where there is nobody to be asked. */
  confirm?: ((question: string) => Promise<boolean>) | undefined;
}

export interface StepDeclaration<Map extends ParamMap, Required extends string, Declared extends ResultDeclarations> {
  name: string;
  /** Other names that the command takes. */
  aliases?: readonly string[];
  /** One sentence with a full stop. */
  summary: string;
  params: ParamSchema<Map, Required>;
  results: Declared;
  /** `text`: stdout carries what `run` prints, and results go to the folder only. */
  product?: 'results' | 'text';
  run(params: ParamValues<Map, Required>, ctx: StepContext): Promise<Results<Declared>>;
}

/** A step as the list of steps, the renderer and the runner see it. */
export interface Step {
  readonly name: string;
  readonly aliases: readonly string[];
  readonly summary: string;
  /** The step's own parameters and those that every step takes. */
  readonly params: ParamSchema;
  readonly results: ResultDeclarations;
  readonly product: 'results' | 'text';
  execute(invocation: Invocation): Promise<Outcome>;
}

/** A step with its types, for the all-in-one and tests. */
export interface DefinedStep<Map extends ParamMap, Required extends string, Declared extends ResultDeclarations> extends Step {
  /** The parameters that it declared itself. */
  readonly own: ParamSchema<Map, Required>;
  readonly results: Declared;
  run: StepDeclaration<Map, Required, Declared>['run'];
}

/** All that a process gives a step: tests and the all-in-one give their own. */
export interface Invocation {
  argv: readonly string[];
  env: NodeJS.ProcessEnv;
  stdout: (text: string) => void;
  stderr: (line: string) => void;
  /** Draws the progress bar; undefined where stderr is no terminal. */
  draw?: ((line: string) => void) | undefined;
  terminal: boolean;
  /** Puts a question to a person and gives back the line that was typed; undefined where there is none. */
  ask?: ((question: string) => Promise<string>) | undefined;
  signal: AbortSignal;
  /** How the user called it, for --help. */
  command: string;
}

export interface Outcome {
  exitCode: number;
  results?: Results;
}

/** Declares a step once: flags, environment, help, docs, wiring and the type of `run`'s parameters come from it. */
export function defineStep<const Map extends ParamMap, const Required extends string, const Declared extends ResultDeclarations>(
  declaration: StepDeclaration<Map, Required, Declared>,
): DefinedStep<Map, Required, Declared> {
  const { name, aliases = [], summary, results, product = 'results', run } = declaration;
  const params = schema({ ...declaration.params.properties, ...commonParams }, declaration.params.required);
  const execute = async (invocation: Invocation): Promise<Outcome> => {
    const redactor = new Redactor();
    let log = createLog({ level: 'info', format: 'json', redactor, write: invocation.stderr });
    let stacks = false;
    try {
      if (invocation.argv.includes('--help')) {
        invocation.stdout(`${await helpText(invocation.command, summary, params.properties, params.required)}\n`);
        return { exitCode: 0 };
      }
      if (invocation.argv.includes('--version')) {
        invocation.stdout(`${version}\n`);
        return { exitCode: 0 };
      }
      log = createLog({ level: 'info', format: invocation.draw ? 'pretty' : 'json', redactor, write: invocation.stderr });
      const { values, secrets } = readParams(params, { argv: invocation.argv, env: invocation.env, envFile: envFile(invocation) });
      for (const secret of secrets) redactor.add(secret);
      const common = values as ParamValues<typeof commonParams, never>;
      stacks = common.logLevel === 'debug' || common.logLevel === 'trace';
      const format = common.logFormat === 'auto' ? (invocation.draw ? 'pretty' : 'json') : common.logFormat;
      log = createLog({ level: common.logLevel, format, redactor, write: invocation.stderr, file: common.logFile });
      useNetwork(values, invocation.env, log);
      const progress = new Progress({
        log,
        draw: format === 'pretty' ? invocation.draw : undefined,
        file: invocation.env.ARGO_PROGRESS_FILE,
      });
      const print = (text: string) => invocation.stdout(redactor.clean(text));
      log.debug({ step: name, version }, 'step started');
      const found = await run(values as ParamValues<Map, Required>, {
        log,
        signal: invocation.signal,
        progress,
        dryRun: common.dryRun,
        print,
        terminal: invocation.terminal,
        confirm: invocation.ask && (async (question) => /^y(es)?$/i.test(((await invocation.ask?.(`${question} [y/N] `)) ?? '').trim())),
      });
      invocation.signal.throwIfAborted();
      checkResults(name, results, found);
      if (common.resultsDir !== undefined && !common.dryRun) writeResults(common.resultsDir, found);
      if (product === 'results' && !common.dryRun) invocation.stdout(`${redactor.clean(resultLine(found))}\n`);
      log.debug({ step: name }, 'step done');
      return { exitCode: 0, results: found };
    } catch (error) {
      invocation.draw?.('');
      return { exitCode: report(invocation.signal.aborted ? invocation.signal.reason : error, log, stacks) };
    } finally {
      closeNetwork();
    }
  };
  return { name, aliases, summary, params, own: declaration.params, results, product, run, execute };
}

/** Runs a step as this process: the only place that reads argv and env and sets the exit code. */
export async function runStep(step: Step, argv = process.argv.slice(2), command = step.name): Promise<void> {
  const abort = new AbortController();
  let signals = 0;
  const stop = (signal: 'SIGTERM' | 'SIGINT') => {
    signals += 1;
    const code = signal === 'SIGTERM' ? exitCodes.terminated : 130;
    if (signals > 1) process.exit(code);
    abort.abort(new StepError('terminated', `ended by ${signal}; a rerun goes on from here`));
    // Kubernetes kills 30 s after SIGTERM: end by ourselves before it, with the right code.
    setTimeout(() => process.exit(code), 25_000).unref();
  };
  process.on('SIGTERM', stop).on('SIGINT', stop);
  const terminal = process.stderr.isTTY === true;
  let drawn = false;
  const draw = (line: string) => {
    process.stderr.write(`\r\u001b[K${line.slice(0, (process.stderr.columns ?? 120) - 1)}`);
    drawn = line !== '';
  };
  const outcome = await step.execute({
    argv,
    env: process.env,
    stdout: (text) => writeOut(text),
    stderr: (line) => {
      if (drawn) process.stderr.write('\r\u001b[K');
      writeLine(2, line);
    },
    draw: terminal ? draw : undefined,
    terminal: process.stdout.isTTY === true,
    ask: terminal && process.stdin.isTTY ? (question) => askPerson(question, abort.signal) : undefined,
    signal: abort.signal,
    command,
  });
  process.exitCode = outcome.exitCode;
  // A connection that a server holds open must not hold the pod: stdout and stderr are written by now.
  process.exit();
}

/** `modelferry STEP ...`: runs one of the steps by its name or alias, or lists them. */
export async function runCommand(steps: readonly Step[]): Promise<void> {
  const [word, ...rest] = process.argv.slice(2);
  const step = steps.find(({ name, aliases }) => word !== undefined && (name === word || aliases.includes(word)));
  if (step) return await runStep(step, rest, `modelferry ${word}`);
  if (word === '--version') return writeOut(`${version}\n`);
  const lines = steps.map(({ name, aliases, summary }) => `  ${(aliases[0] ?? name).padEnd(10)} ${summary}`);
  const text = `Usage: modelferry STEP [flags]\n\n${lines.join('\n')}\n\nmodelferry STEP --help tells the flags of a step.\n`;
  if (word === undefined || word === '--help' || word === 'help') return writeOut(text);
  writeLine(2, `failed to run ${JSON.stringify(oneLine(word))}: no such step\n\n${text}`);
  process.exitCode = exitCodes.usage;
}

async function askPerson(question: string, signal: AbortSignal): Promise<string> {
  const { createInterface } = await import('node:readline/promises');
  const reader = createInterface({ input: process.stdin, output: process.stderr });
  return await reader.question(question, { signal }).finally(() => reader.close());
}

/** How a program of others calls a step. */
export interface CallOptions {
  /** Where parameters are read from that are not given: the names that the steps know. Default: this process's environment. */
  env?: NodeJS.ProcessEnv | undefined;
  signal?: AbortSignal | undefined;
  /** Gets each line of the log, as JSON; secrets are taken out. Default: nobody. */
  onLog?: ((line: string) => void) | undefined;
  /** Gets what the step puts on stdout, when that is its product. */
  onPrint?: ((text: string) => void) | undefined;
}

/** A parameter as a program gives it: a quantity is a number of bytes or ms, or text such as `16MiB` or `30s`. */
export type CallValue = string | number | boolean | readonly string[] | undefined;

let calls = 0;

/**
 * Runs a step as a function of this process: the same parameters, defaults and checks as the program's. Throws what it fails with. Calls may run
 * side by side: they share one network set-up, that of the first.
 */
export async function callStep<Map extends ParamMap, Required extends string, Declared extends ResultDeclarations>(
  step: DefinedStep<Map, Required, Declared>,
  given: { readonly [Name in keyof Map]?: CallValue },
  { env = process.env, signal = new AbortController().signal, onLog = () => {}, onPrint = () => {} }: CallOptions = {},
): Promise<Results<Declared>> {
  const argv: string[] = [];
  const secrets: NodeJS.Dict<string> = {};
  for (const [name, value] of Object.entries(given) as [string, CallValue][]) {
    if (value === undefined) continue;
    const { 'x-unit': unit, 'x-secret': secret } = step.params.properties[name] ?? {};
    const text = Array.isArray(value) ? JSON.stringify(value) : `${value}${unit === 'ms' && typeof value === 'number' ? 'ms' : ''}`;
    if (secret) secrets[envName(name)] = text;
    else argv.push(`--${kebab(name)}=${text}`);
  }
  const read = readParams(step.params, { argv, env: { ...env, ...secrets } });
  const redactor = new Redactor();
  for (const secret of read.secrets) redactor.add(secret);
  const common = read.values as unknown as ParamValues<typeof commonParams, never>;
  const log = createLog({ level: common.logLevel, format: 'json', redactor, write: onLog, file: common.logFile });
  if (calls === 0) useNetwork(read.values, env, log);
  calls += 1;
  try {
    const ctx = { log, signal, progress: new Progress({ log }), dryRun: common.dryRun, print: onPrint, terminal: false };
    return await step.run(read.values as unknown as ParamValues<Map, Required>, ctx);
  } finally {
    calls -= 1;
    if (calls === 0) closeNetwork();
  }
}

function writeOut(text: string): void {
  writeLine(1, text.replace(/\n$/, ''));
}

function envFile({ argv, env, terminal }: Invocation): NodeJS.Dict<string> {
  const at = argv.findIndex((word) => word === '--env-file' || word.startsWith('--env-file='));
  const flag = at >= 0 ? (argv[at]?.split('=')[1] ?? argv[at + 1]) : undefined;
  const path = flag || env.ENV_FILE || (terminal && existsSync('.env') ? '.env' : undefined);
  if (path === undefined) return {};
  try {
    return parseEnv(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new StepError('usage', `failed to read --env-file ${path}: ${messageOf(error)}`, { cause: error });
  }
}

function useNetwork(values: object, env: NodeJS.ProcessEnv, log: Log): void {
  const { caBundle, insecureSkipTlsVerify, bandwidthLimit } = values as {
    caBundle?: string;
    insecureSkipTlsVerify?: boolean;
    bandwidthLimit?: number;
  };
  if (insecureSkipTlsVerify) log.warn('certificates are not verified: anyone on the way can read and change what is sent');
  setUpNetwork({ caBundle, insecureSkipTlsVerify: insecureSkipTlsVerify ?? false, proxyEnv: env, bandwidthLimit, log });
}

function checkResults(step: string, declared: ResultDeclarations, found: Results): void {
  const missing = Object.keys(declared).filter((name) => typeof found[name] !== 'string');
  const extra = Object.keys(found).filter((name) => !(name in declared));
  if (missing.length + extra.length > 0)
    throw new StepError('bug', `failed to end ${step}: results differ from those declared: ${[...missing, ...extra]}`);
}

/** Tells the failure in one line, with a hint, and gives the exit code. */
function report(error: unknown, log: Log, stacks: boolean): number {
  const kind = kindOf(error);
  const exitCode = exitCodes[kind];
  const hint = error instanceof StepError ? error.hint : undefined;
  const message = messageOf(error);
  const known = error instanceof StepError || kind !== 'bug';
  const text = known ? message : `failed to run: ${message} (a bug of modelferry)`;
  const stack = stacks || !known ? stackOf(error) : undefined;
  const fields = { kind, exitCode, ...(hint ? { hint: oneLine(hint) } : {}), ...(stack ? { stack } : {}) };
  if (kind === 'terminated') log.warn(fields, text);
  else log.error(fields, text);
  return exitCode;
}

function stackOf(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const cause = error.cause === undefined ? '' : `\ncaused by ${stackOf(error.cause) ?? String(error.cause)}`;
  return `${error.stack ?? error.message}${cause}`;
}
