import type { Step } from './define-step.ts';
import { exitCodes, oneLine, StepError } from './errors.ts';
import { collectNear } from './heap.ts';
import { writeLine } from './log.ts';
import { version } from './version.ts';

/** The environment of this process, for who is given none. */
export const processEnv = process.env;

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
  // Node would print it as it is, secrets too. What nobody caught a second time changes nothing.
  const crash = new Promise<never>((_, reject) => process.on('uncaughtException', reject));
  crash.catch(() => {});
  // Reports that Node writes when it dies (--report-on-fatalerror) hold no environment, where the secrets are.
  process.report.excludeEnv = true;
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
    crash,
    keepUnder: collectNear,
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
  // The terminal sends Ctrl-C as a key while it asks. Ctrl-D, and a terminal that goes away, are no answer.
  reader.on('SIGINT', () => process.kill(process.pid, 'SIGINT'));
  const closed = new Promise<string>((resolve) => reader.once('close', () => resolve('')));
  const answer = reader.question(question, { signal }).catch(() => '');
  return await Promise.race([answer, closed]).finally(() => reader.close());
}

function writeOut(text: string): void {
  writeLine(1, text.replace(/\n$/, ''));
}
