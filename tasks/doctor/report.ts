import { stringify } from 'yaml';
import type { Finding } from './findings.ts';
import type { Recommended } from './settings.ts';

/** What each check asks, and what follows from a no. */
const meanings: Record<string, [asks: string, otherwise: string]> = {
  'path-style': ['bucket in the path', ''],
  'virtual-host': ['bucket in the host name', ''],
  clock: ['clocks agree', 'requests are refused when they are 15 minutes apart'],
  'read-write': ['objects and their metadata', 'no model can be kept here'],
  range: ['ranges of an object', 'no model can be read in parts'],
  'checksum-header': ['x-amz-checksum-crc32 is verified', 'the signed sha256 protects payloads instead'],
  'payload-sha256': ['x-amz-content-sha256 is verified', ''],
  'checksum-trailer': ['checksums in trailers, as newer SDKs send them', 'newer AWS SDKs need when_required'],
  'put-if-absent': ['put If-None-Match', 'only one run at a time may publish a model'],
  'put-if-match': ['put If-Match', 'a claim of a dead run is taken over without a guard'],
  'delete-if-match': ['delete If-Match', ''],
  copy: ['copies inside the store', 'unchanged files of a new version are sent again'],
  'copy-if-match': ['copy If-Match of the source', ''],
  tags: ['tags of objects', 'leave --s3-tags out'],
  'default-encryption': ['bucket encrypts by default', ''],
  'sse-s3': ['--s3-sse AES256', ''],
  'sse-kms': ['--s3-sse aws:kms', ''],
  versioning: ['bucket keeps versions', 'bootstrap turns it on'],
  'list-uploads': ['unfinished uploads are listed', 'those of dead runs are found by their claims only'],
  'list-parts': ['parts of an upload are listed', 'an interrupted upload begins again'],
  'part-copy': ['copies into parts', 'files over 5 GiB are sent again'],
  multipart: ['uploads in parts', 'no file over 5 GiB can be kept here'],
  'small-parts': ['parts under 5 MiB', ''],
};

/** A report for people. */
export function showReport(uri: string, list: readonly Finding[], { modelferry, kserve, kserveCa, vllm }: Recommended): string {
  const checks = list.map(({ check, verdict, detail }) => {
    const [asks = check, otherwise = ''] = meanings[check] ?? [];
    const rest = [detail, verdict === 'no' ? otherwise : ''].filter((text) => text);
    return `  ${verdict.padEnd(8)} ${asks}${rest.length > 0 ? `: ${rest.join('; ')}` : ''}\n`;
  });
  const env = (values: Record<string, string>) => Object.entries(values).map(([name, value]) => `${name}=${value}\n`);
  return [
    `${uri}\n`,
    ...checks,
    '\n# modelferry: environment (credentials as ever)\n',
    ...env(modelferry),
    '\n# KServe: annotations of the Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, named by the service account\n',
    ...(kserveCa === undefined ? [] : [`# its CA, in the namespace of the server: ${kserveCa}\n`]),
    stringify(kserve),
    '\n# vLLM, Run:ai model streamer: environment\n',
    ...env(vllm),
  ].join('');
}
