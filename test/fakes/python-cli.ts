import { execFile } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);
const cache = join(import.meta.dirname, '../../.cache');
const installMs = 300_000;

export interface PythonCli {
  /** The distribution on PyPI, and the release that is pinned. */
  distribution: string;
  version: string;
  /** The command it installs. */
  command: string;
  /** What a user does who cannot have it: the end of an error message. */
  orElse: string;
}

/**
 * Path of a command from PyPI, installed into a virtual environment of its own under .cache/ the first time, by uv where there is one.
 * Several processes may ask at once. Fails with what to do where Python or PyPI are missing.
 */
export async function pythonCli(cli: PythonCli): Promise<string> {
  const venv = join(cache, `${cli.command}-venv-${cli.version}`);
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
      if (!existsSync(ready)) await install(cli, venv);
    } finally {
      await rm(lock, { recursive: true, force: true });
    }
  }
  return join(venv, 'bin', cli.command);
}

async function install({ distribution, version, orElse }: PythonCli, venv: string): Promise<void> {
  await rm(venv, { recursive: true, force: true });
  const wanted = `${distribution}==${version}`;
  try {
    if (await works('uv', ['--version'])) {
      await run('uv', ['venv', '--quiet', '--python', '>=3.10', venv], { timeout: installMs });
      await run('uv', ['pip', 'install', '--quiet', '--python', join(venv, 'bin/python'), wanted], { timeout: installMs });
    } else {
      await run('python3', ['-c', 'import sys; assert sys.version_info >= (3, 10), sys.version'], { timeout: installMs });
      await run('python3', ['-m', 'venv', venv], { timeout: installMs });
      await run(join(venv, 'bin/pip'), ['install', '--quiet', '--disable-pip-version-check', wanted], { timeout: installMs });
    }
  } catch (error) {
    const hint = `install uv or python3 (3.10 or newer) with its venv module and let it reach PyPI, or ${orElse}`;
    throw new Error(`failed to install ${wanted}: ${hint}`, { cause: error });
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
