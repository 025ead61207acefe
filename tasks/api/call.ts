import { type CallValue, callStep, type CallOptions as StepCall } from '../../lib/call-step.ts';
import type { DefinedStep } from '../../lib/define-step.ts';
import type { ParamMap } from '../../lib/params/declare.ts';
import type { ResultDeclarations } from '../../lib/results.ts';
import { isModelferryError } from './errors.ts';
import type { CallOptions } from './options.ts';

type AnyStep = DefinedStep<ParamMap, string, ResultDeclarations>;
type OwnNames<S> = S extends { own: { properties: infer Map } } ? keyof Map : never;
/** Every option must be a parameter of the step: a name that it lacks does not compile. */
type Only<Options, Names> = { [Name in keyof Options]: Name extends Names | keyof CallOptions ? Options[Name] : never };

/** Runs a step and gives its results by their declared names. Throws StepError. */
export async function call<S, Options extends CallOptions>(step: S, options: Options & Only<Options, OwnNames<S>>): Promise<ResultsOf<S>> {
  return await callWith(step, options, () => {});
}

type ResultsOf<S> = S extends { results: infer Declared } ? { [Name in keyof Declared]: string } : never;

async function callWith<S>(step: S, options: CallOptions, onPrint: (text: string) => void): Promise<ResultsOf<S>> {
  const { env, signal, onLog, ...given } = options;
  const how: StepCall = { env, signal, onLog, onPrint };
  return (await callStep(step as unknown as AnyStep, given as Record<string, CallValue>, how)) as unknown as ResultsOf<S>;
}

/** For steps whose product is text: it may be there although the step failed. */
export async function printedBy<S, Options extends CallOptions>(
  step: S,
  options: Options & Only<Options, OwnNames<S>>,
): Promise<{ text: string; error?: unknown }> {
  let text = '';
  try {
    await callWith(step, options, (more) => {
      text += more;
    });
    return { text };
  } catch (error) {
    if (text === '' || !isModelferryError(error) || error.kind !== 'refused') throw error;
    return { text, error };
  }
}
