import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { pythonEnv } from '../fakes/python-env.ts';
import { vllmPython } from '../oracle/programs.ts';

const run = promisify(execFile);

const packages = ['ray[serve]==2.60.0', 'kserve-storage==0.21.0', 'prometheus_client==0.26.0', 'pyarrow==26.0.1', 'pyyaml'];
/** Pinned to each other; PyPI's torch, which they ask for, is there with vLLM. */
const withoutTorch = ['runai-model-streamer==0.17.0', 'runai-model-streamer-s3==0.17.0', 'humanize==4.17.0'];

/** An interpreter with Ray Serve, KServe's storage initializer, Run:ai's streamer, and vLLM for a plain CPU. */
export async function servingPython(): Promise<string> {
  const vllm = await vllmPython();
  const bin = await pythonEnv({
    name: 'serving-venv-1',
    what: packages.join(' '),
    fill: async (install, python) => {
      await install(...packages);
      await install('--no-deps', ...withoutTorch);
      const folderOf = async (interpreter: string) =>
        (await run(interpreter, ['-c', 'import sysconfig; print(sysconfig.get_paths()["purelib"])'])).stdout.trim();
      // vLLM's packages come behind its own: it need not be installed twice.
      await writeFile(join(await folderOf(python), 'vllm.pth'), `${await folderOf(vllm)}\n`);
    },
    orElse: 'leave test:real: it is nothing without them',
    installMs: 3_000_000,
  });
  return join(bin, 'python');
}

/** What one of our Python programs here printed behind `RESULT `, as JSON. Throws with what it said when it failed. */
export async function runPython<T>(program: string, args: readonly string[], env: Record<string, string>): Promise<T> {
  const file = join(import.meta.dirname, program);
  const given = { PATH: process.env.PATH ?? '', PYTHONDONTWRITEBYTECODE: '1', ...env };
  const { stdout } = await run(await servingPython(), [file, ...args], { env: given, maxBuffer: 2 ** 26 });
  const line = stdout.split('\n').find((each) => each.startsWith('RESULT '));
  if (line === undefined) throw new Error(`${program} printed no result: ${stdout.slice(-2000)}`);
  return JSON.parse(line.slice('RESULT '.length)) as T;
}

/** A package of npm, installed into a folder of its own below .cache/ the first time. */
export async function npmPackages(name: string, wanted: readonly string[]): Promise<NodeJS.Require> {
  const folder = join(import.meta.dirname, '../../.cache', name);
  const ready = join(folder, 'ready');
  if (!existsSync(ready)) {
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, 'package.json'), '{"private": true}\n');
    await run('npm', ['install', '--silent', '--no-audit', '--no-fund', ...wanted], { cwd: folder });
    await writeFile(ready, '');
  }
  return createRequire(join(folder, 'package.json'));
}

/** The paths of commands; undefined unless all of them are installed. */
export function commands<Name extends string>(...names: readonly Name[]): Record<Name, string> | undefined {
  const find = (name: string) =>
    (process.env.PATH ?? '')
      .split(delimiter)
      .map((folder) => join(folder, name))
      .find((path) => existsSync(path));
  const found = names.map((name) => [name, find(name)] as const);
  return found.every(([, path]) => path !== undefined) ? (Object.fromEntries(found) as Record<Name, string>) : undefined;
}
