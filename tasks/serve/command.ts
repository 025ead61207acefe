import type { Served } from './model.ts';

/** The vLLM command that streams the weights right from S3 (vLLM documentation, "Loading models with Run:ai Model Streamer"). */
export function vllmCommand(
  served: Served,
  given: { endpoint: string | undefined; region: string | undefined; pathStyle: boolean; serverArgs: readonly string[] },
): string {
  const env: [string, string | undefined][] = [
    ['AWS_ENDPOINT_URL', given.endpoint],
    ['AWS_REGION', given.region],
    ['RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING', given.pathStyle ? '0' : undefined],
    // Else a machine without a role waits for one.
    ['AWS_EC2_METADATA_DISABLED', given.endpoint === undefined ? undefined : 'true'],
  ];
  const words = [
    'vllm',
    'serve',
    served.uri,
    '--load-format',
    'runai_streamer',
    '--served-model-name',
    served.modelName,
    ...given.serverArgs,
  ];
  const lines = [...env.flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${quote(value)}`])), words.map(quote).join(' ')];
  return `${lines.join(' \\\n')}\n`;
}

/** A word as a shell reads it back. */
function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
