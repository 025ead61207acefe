import { execFile } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** The release of huggingface_hub whose `hf` we compare ourselves with. */
export const hfVersion = '2.4.0';

/** True where somebody said by MODELFERRY_SKIP_HF_CLI=1 that this machine cannot have it. */
export const skipHfCli = process.env.MODELFERRY_SKIP_HF_CLI === '1';

const cache = join(import.meta.dirname, '../../.cache');
const venv = join(cache, `hf-venv-${hfVersion}`);
const ready = join(venv, 'ready');
const installMs = 300_000;

/**
 * Path of the real `hf` command: installed from PyPI into a virtual environment under .cache/ the first time, by uv where there is one.
 * Several processes may ask at once. Fails with what to do where Python or PyPI are missing.
 */
export async function hfCli(): Promise<string> {
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
      if (!existsSync(ready)) await install();
    } finally {
      await rm(lock, { recursive: true, force: true });
    }
  }
  return join(venv, 'bin/hf');
}

/** Environment for `hf` against a Hub at `endpoint`: nothing of the caller's but PATH, no telemetry, no Xet, its state below `home`. */
export function hfEnv(endpoint: string, home: string, token?: string): NodeJS.ProcessEnv {
  return {
    PATH: process.env.PATH,
    HOME: home,
    HF_HOME: join(home, 'hf'),
    HF_ENDPOINT: endpoint,
    HF_HUB_DISABLE_XET: '1',
    HF_HUB_DISABLE_TELEMETRY: '1',
    HF_HUB_DISABLE_UPDATE_CHECK: '1',
    HF_HUB_DISABLE_PROGRESS_BARS: '1',
    NO_COLOR: '1',
    PYTHONUTF8: '1',
    ...(token && { HF_TOKEN: token }),
  };
}

async function install(): Promise<void> {
  await rm(venv, { recursive: true, force: true });
  const wanted = `huggingface_hub==${hfVersion}`;
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
    const hint = 'install uv or python3 (3.10 or newer) with its venv module and let it reach PyPI, or set MODELFERRY_SKIP_HF_CLI=1';
    throw new Error(`failed to install ${wanted}, which the fake Hub is compared with: ${hint}`, { cause: error });
  }
  await writeFile(ready, '');
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
