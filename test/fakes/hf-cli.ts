import { join } from 'node:path';
import { pythonCli } from './python-cli.ts';

/** The release of huggingface_hub whose `hf` we compare ourselves with. */
export const hfVersion = '2.4.0';

/** True where somebody said by MODELFERRY_SKIP_HF_CLI=1 that this machine cannot have it. */
export const skipHfCli = process.env.MODELFERRY_SKIP_HF_CLI === '1';

/** Path of the real `hf` command; see pythonCli. */
export function hfCli(): Promise<string> {
  return pythonCli({ distribution: 'huggingface_hub', version: hfVersion, command: 'hf', orElse: 'set MODELFERRY_SKIP_HF_CLI=1' });
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
