import { execFile } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);
const cache = join(import.meta.dirname, '../../.cache');

export interface PythonEnv {
  /** Its folder below .cache/, with the release in it: another release is another folder. */
  name: string;
  /** What it is for, in an error message. */
  what: string;
  /** Installs all it needs. `install`: pip's arguments, one call after another. `python`: its interpreter. */
  fill: (install: (...wanted: string[]) => Promise<void>, python: string) => Promise<void>;
  /** What a user does who cannot have it: the end of an error message. */
  orElse: string;
  /** Limit for all of it; default five minutes. */
  installMs?: number;
}

/**
 * The bin folder of a virtual environment of Python under .cache/, made the first time, by uv where there is one.
 * Several processes may ask at once. Fails with what to do where Python or PyPI are missing.
 */
export async function pythonEnv(env: PythonEnv): Promise<string> {
  const { name, installMs = 300_000 } = env;
  const venv = join(cache, name);
  const ready = join(venv, 'ready');
  const lock = `${venv}.lock`;
  const deadline = Date.now() + installMs;
  await mkdir(cache, { recursive: true });
  while (!existsSync(ready)) {
    try {
      await mkdir(lock);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || Date.now() > deadline) throw error;
      if (lockAge(lock) > installMs) await rm(lock, { recursive: true, force: true });
      await wait(200);
      continue;
    }
    try {
      if (!existsSync(ready)) await make(env, venv, installMs);
    } finally {
      await rm(lock, { recursive: true, force: true });
    }
  }
  return join(venv, 'bin');
}

async function make({ what, fill, orElse }: PythonEnv, venv: string, timeout: number): Promise<void> {
  await rm(venv, { recursive: true, force: true });
  const python = join(venv, 'bin/python');
  try {
    const uv = await works('uv', ['--version']);
    if (uv) await run('uv', ['venv', '--quiet', '--python', '>=3.10', venv], { timeout });
    else {
      await run('python3', ['-c', 'import sys; assert sys.version_info >= (3, 10), sys.version'], { timeout });
      await run('python3', ['-m', 'venv', venv], { timeout });
    }
    const [program, ...args] = uv
      ? (['uv', 'pip', 'install', '--quiet', '--python', python] as const)
      : ([join(venv, 'bin/pip'), 'install', '--quiet', '--disable-pip-version-check'] as const);
    await fill(async (...wanted) => void (await run(program, [...args, ...wanted], { timeout })), python);
  } catch (error) {
    const hint = `install uv or python3 (3.10 or newer) with its venv module and let it reach PyPI, or ${orElse}`;
    throw new Error(`failed to install ${what}: ${hint}`, { cause: error });
  }
  await writeFile(join(venv, 'ready'), '');
}

function works(command: string, args: string[]): Promise<boolean> {
  return run(command, args).then(
    () => true,
    () => false,
  );
}

function lockAge(lock: string): number {
  try {
    return Date.now() - statSync(lock).mtimeMs;
  } catch {
    return 0;
  }
}
