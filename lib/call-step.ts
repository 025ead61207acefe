import { type DefinedStep, useNetwork } from './define-step.ts';
import { createLog, Redactor } from './log.ts';
import { closeNetwork } from './network.ts';
import { envName, kebab, type ParamMap, type ParamValues } from './params/declare.ts';
import type { commonParams } from './params/groups/every-step.ts';
import { readParams } from './params/read.ts';
import { Progress } from './progress.ts';
import type { ResultDeclarations, Results } from './results.ts';
import { processEnv } from './step.ts';

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
  { env = processEnv, signal = new AbortController().signal, onLog = () => {}, onPrint = () => {} }: CallOptions = {},
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
  const redactor = new Redactor();
  const onSecret = (secret: string) => redactor.add(secret);
  const faultsOf = step.faults && { faultsOf: step.faults };
  const { values } = readParams(step.params, { argv, env: { ...env, ...secrets }, onSecret, ...faultsOf });
  const common = values as unknown as ParamValues<typeof commonParams, never>;
  const log = createLog({ level: common.logLevel, format: 'json', redactor, write: onLog, file: common.logFile });
  if (calls === 0) useNetwork(values, env, log);
  calls += 1;
  try {
    const ctx = { log, signal, progress: new Progress({ log }), dryRun: common.dryRun, print: onPrint, terminal: false };
    return await step.run(values as unknown as ParamValues<Map, Required>, ctx);
  } finally {
    calls -= 1;
    if (calls === 0) closeNetwork();
  }
}
