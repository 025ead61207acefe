import { join } from 'node:path';
import { pythonEnv } from './python-env.ts';

export interface PythonCli {
  /** The distribution on PyPI, and the release that is pinned. */
  distribution: string;
  version: string;
  /** The command it installs. */
  command: string;
  /** What a user does who cannot have it: the end of an error message. */
  orElse: string;
}

/** Path of a command from PyPI, installed into an environment of its own the first time; see pythonEnv. */
export async function pythonCli({ distribution, version, command, orElse }: PythonCli): Promise<string> {
  const what = `${distribution}==${version}`;
  const bin = await pythonEnv({ name: `${command}-venv-${version}`, what, fill: (install) => install(what), orElse });
  return join(bin, command);
}
