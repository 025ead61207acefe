import { join } from 'node:path';
import { pythonCli } from './python-cli.ts';

/** True where somebody said by MODELFERRY_SKIP_AWS_CLI=1 that this machine cannot have it. */
export const skipAwsCli = process.env.MODELFERRY_SKIP_AWS_CLI === '1';

/** Path of the real `aws` command; see pythonCli. */
export function awsCli(): Promise<string> {
  return pythonCli({ distribution: 'awscli', version: '1.46.3', command: 'aws', orElse: 'set MODELFERRY_SKIP_AWS_CLI=1' });
}

/** Environment for `aws` against an S3 server at `endpoint`: nothing of the caller's but PATH, its state below `home`. */
export function awsEnv(endpoint: string, home: string, credentials: { accessKeyId: string; secretAccessKey: string }): NodeJS.ProcessEnv {
  return {
    PATH: process.env.PATH,
    HOME: home,
    AWS_CONFIG_FILE: join(home, 'config'),
    AWS_SHARED_CREDENTIALS_FILE: join(home, 'credentials'),
    AWS_ENDPOINT_URL_S3: endpoint,
    AWS_DEFAULT_REGION: 'us-east-1',
    AWS_ACCESS_KEY_ID: credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
    AWS_EC2_METADATA_DISABLED: 'true',
    AWS_PAGER: '',
    PYTHONUTF8: '1',
  };
}
