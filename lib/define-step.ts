import { existsSync, readFileSync } from 'node:fs';
import { unescape as decoded } from 'node:querystring';
import { parseEnv } from 'node:util';
import { explain, messageOf, StepError, visible } from './errors.ts';
import { checkFolderToBe } from './folders.ts';
import { leastMemory } from './heap.ts';
import { createLog, type Log, logFailure, Redactor } from './log.ts';
import { closeNetwork, setUpNetwork } from './network.ts';
import { type ParamMap, type ParamSchema, type ParamValues, schema } from './params/declare.ts';
import { helpText } from './params/flags.ts';
import { commonParams } from './params/groups/every-step.ts';
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
  /**
   * What is wrong with parameters that are right one by one; told together with all other faults. Of a value that is wrong by itself it gets what was
   * given, so that it must not trust numbers.
   */
  faults?(params: ParamValues<Map, Required>): readonly string[];
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
  readonly faults?: StepDeclaration<Map, Required, Declared>['faults'];
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
  /** Rejects with what was thrown where nobody catches it: the step ends with it, told like any other failure. */
  crash?: Promise<never> | undefined;
  /** Puts a question to a person and gives back the line that was typed; undefined where there is none. */
  ask?: ((question: string) => Promise<string>) | undefined;
  signal: AbortSignal;
  /** Keeps the process under so many bytes resident; undefined where it is not the step's own. */
  keepUnder?: ((maxMemory: number) => void) | undefined;
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
  const { name, aliases = [], summary, results, product = 'results', faults, run } = declaration;
  const params = schema({ ...declaration.params.properties, ...commonParams }, declaration.params.required);
  const execute = async (invocation: Invocation): Promise<Outcome> => {
    const redactor = new Redactor();
    let log = createLog({ level: 'info', format: 'json', redactor, write: invocation.stderr });
    let stacks = false;
    try {
      const told = await textAskedFor(invocation, summary, params);
      if (told !== undefined) {
        invocation.stdout(`${told}\n`);
        return { exitCode: 0 };
      }
      log = createLog({ level: 'info', format: invocation.draw ? 'pretty' : 'json', redactor, write: invocation.stderr });
      const onSecret = (secret: string) => redactor.add(secret);
      const { argv, env } = invocation;
      const { values } = readParams(params, { argv, env, envFile: envFile(invocation), onSecret, ...(faults && { faultsOf: faults }) });
      const common = values as ParamValues<typeof commonParams, never>;
      stacks = common.logLevel === 'debug' || common.logLevel === 'trace';
      const format = common.logFormat === 'auto' ? (invocation.draw ? 'pretty' : 'json') : common.logFormat;
      log = createLog({ level: common.logLevel, format, redactor, write: invocation.stderr, file: common.logFile });
      if (common.resultsDir !== undefined) await checkFolderToBe('--results-dir', common.resultsDir);
      useNetwork(values, invocation.env, log);
      keepMemory(values, invocation, log);
      const progress = new Progress({
        log,
        draw: format === 'pretty' ? invocation.draw : undefined,
        file: invocation.env.ARGO_PROGRESS_FILE,
      });
      const print = (text: string) => invocation.stdout(visible(redactor.clean(text)));
      log.debug({ step: name, version }, 'step started');
      const running = run(values as ParamValues<Map, Required>, {
        log,
        signal: invocation.signal,
        progress,
        dryRun: common.dryRun,
        print,
        terminal: invocation.terminal,
        confirm: invocation.ask && confirmBy(invocation.ask),
      });
      const found = await Promise.race([running, ...(invocation.crash === undefined ? [] : [invocation.crash])]);
      invocation.signal.throwIfAborted();
      checkResults(name, results, found);
      if (common.resultsDir !== undefined && !common.dryRun) await writeResults(common.resultsDir, found);
      if (product === 'results' && !common.dryRun) invocation.stdout(`${visible(redactor.clean(resultLine(found)))}\n`);
      log.debug({ step: name }, 'step done');
      return { exitCode: 0, results: found };
    } catch (error) {
      invocation.draw?.('');
      // What nobody else put into words: a file call on a volume that went away.
      const failure = invocation.signal.aborted ? invocation.signal.reason : explain(name, error);
      return { exitCode: logFailure(failure, log, stacks) };
    } finally {
      closeNetwork();
    }
  };
  return { name, aliases, summary, params, own: declaration.params, results, product, ...(faults && { faults }), run, execute };
}

/** What --help or --version prints; undefined when neither is given. */
async function textAskedFor({ argv, command }: Invocation, summary: string, params: ParamSchema): Promise<string | undefined> {
  if (argv.includes('--help')) return await helpText(command, summary, params.properties, params.required);
  return argv.includes('--version') ? version : undefined;
}

/** Anything but a yes is a no. */
function confirmBy(ask: (question: string) => Promise<string>): (question: string) => Promise<boolean> {
  return async (question) => /^y(es)?$/i.test((await ask(`${visible(question)} [y/N] `)).trim());
}

function envFile({ argv, env, terminal }: Invocation): NodeJS.Dict<string> {
  const at = argv.findIndex((word) => word === '--env-file' || word.startsWith('--env-file='));
  const [word, next] = at < 0 ? [] : argv.slice(at, at + 2);
  const flag = word === '--env-file' ? next : word?.slice('--env-file='.length);
  const path = flag || env.ENV_FILE || (terminal && existsSync('.env') ? '.env' : undefined);
  if (path === undefined) return {};
  try {
    return parseEnv(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new StepError('usage', `failed to read --env-file ${path}: ${messageOf(error)}`, { cause: error });
  }
}

/** The step goes on with less than it may need: a small model fits. */
function keepMemory({ maxMemory }: { maxMemory?: number }, { keepUnder }: Invocation, log: Log): void {
  if (maxMemory === undefined) return;
  if (maxMemory < leastMemory) {
    log.warn(
      { maxMemory },
      `--max-memory is less than ${leastMemory / 1024 ** 2}MiB: that is enough for small models only, others may take more`,
    );
  }
  keepUnder?.(maxMemory);
}

/** Sets the network up as the parameters say; `closeNetwork` ends it. */
export function useNetwork(values: object, env: NodeJS.ProcessEnv, log: Log): void {
  const { caBundle, insecureSkipTlsVerify, bandwidthLimit } = values as {
    caBundle?: string;
    insecureSkipTlsVerify?: boolean;
    bandwidthLimit?: number;
  };
  if (insecureSkipTlsVerify) log.warn('certificates are not verified: anyone on the way can read and change what is sent');
  for (const secret of proxyPasswords(env)) Redactor.hide(secret);
  setUpNetwork({ caBundle, insecureSkipTlsVerify: insecureSkipTlsVerify ?? false, proxyEnv: env, bandwidthLimit, log });
}

/** The passwords of proxies, as they stand in their addresses and as they are meant. */
function proxyPasswords(env: NodeJS.ProcessEnv): string[] {
  const addresses = Object.entries(env).flatMap(([name, value]) =>
    /^(https?|all)_proxy$/i.test(name) && URL.canParse(value ?? '') ? [new URL(value ?? '')] : [],
  );
  return addresses.flatMap(({ password }) => [password, decoded(password)]);
}

function checkResults(step: string, declared: ResultDeclarations, found: Results): void {
  const missing = Object.keys(declared).filter((name) => typeof found[name] !== 'string');
  const extra = Object.keys(found).filter((name) => !(name in declared));
  if (missing.length + extra.length > 0)
    throw new StepError('bug', `failed to end ${step}: results differ from those declared: ${[...missing, ...extra]}`);
}
