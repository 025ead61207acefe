import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Step } from '../../lib/define-step.ts';
import { leaksIn, leaksInFiles, secretsOf } from './leaks.ts';

export interface Ended {
  exitCode: number | null;
  stdout: string;
  stderr: string;
}

/**
 * A built program, run as a pod runs it: nothing of our environment but PATH. Whatever it writes, to its streams and into its folders, is searched
 * for the secrets it was given; what it sends, the servers search.
 */
export class Program {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;

  /** `via`: a command that runs the command behind it. */
  constructor(name: string, argv: readonly string[], env: Record<string, string> = {}, cwd?: string, via: readonly string[] = []) {
    const file = join(import.meta.dirname, '../../dist', `${name}.cjs`);
    if (!existsSync(file)) throw new Error(`${file} is missing: npm run build makes it`);
    const secrets = secretsOf(env);
    const [command = '', ...rest] = [...via, process.execPath, file, ...argv];
    this.child = spawn(command, rest, {
      env: { PATH: process.env.PATH ?? '', ...env },
      cwd,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    this.child.stdout?.on('data', (chunk) => {
      stdout += chunk;
    });
    this.child.stderr?.on('data', (chunk) => {
      stderr += chunk;
    });
    this.ended = new Promise((resolve, reject) =>
      this.child.on('close', (exitCode) => {
        const leaks = [...leaksIn(`${stdout}${stderr}${argv.join(' ')}`, secrets), ...leaksInFiles(argv, env, cwd)];
        if (leaks.length > 0) reject(new Error(`${name} writes secrets: ${leaks.join(', ')}`));
        else resolve({ exitCode, stdout, stderr });
      }),
    );
  }

  async kill(signal: 'SIGKILL' | 'SIGTERM'): Promise<Ended> {
    this.child.kill(signal);
    return await this.ended;
  }
}

/** Runs a step in this process, as its program would, and searches what it writes for the secrets it was given. */
export async function runInProcess(
  step: Step,
  argv: readonly string[],
  env: Record<string, string> = {},
  { terminal = false } = {},
): Promise<Ended & { results: Record<string, string> }> {
  let stdout = '';
  let stderr = '';
  const secrets = secretsOf(env);
  const outcome = await step.execute({
    argv,
    env,
    stdout: (text) => {
      stdout += text;
    },
    stderr: (line) => {
      stderr += `${line}\n`;
    },
    terminal,
    signal: new AbortController().signal,
    command: step.name,
  });
  const leaks = [...leaksIn(`${stdout}${stderr}${JSON.stringify(outcome.results ?? {})}`, secrets), ...leaksInFiles(argv, env)];
  if (leaks.length > 0) throw new Error(`${step.name} writes secrets: ${leaks.join(', ')}`);
  return { exitCode: outcome.exitCode, stdout, stderr, results: outcome.results ?? {} };
}

/** Lets everything else go on until the condition holds; the test's own time limit ends it. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1));
}
