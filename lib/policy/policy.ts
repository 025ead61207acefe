import { StepError } from '../errors.ts';
import { globMatcher } from '../glob.ts';
import type { Log } from '../log.ts';
import type { GroupValues } from '../params/declare.ts';
import type { policyParams } from '../params/groups/policy.ts';
import type { ByteSource } from '../publish/send.ts';
import { mapLimited } from '../transfer/pool.ts';
import type { Bytes } from './bytes.ts';
import { type Finding, inspect, isCandidate, isCode, isUnsafeName } from './inspect.ts';
import type { Seen } from './seen.ts';

export type Policy = GroupValues<typeof policyParams>;

/** What is known of a model before a byte of it is read. */
export interface Known {
  /** As the card says; undefined when it says none. */
  license: string | undefined;
  paths: readonly string[];
}

/**
 * Throws `refused` with all that the policy has against a model by its licence and its files' names. Python files are told: whoever loads
 * the model with trust_remote_code runs them.
 */
export function checkKnown(policy: Policy, { license, paths }: Known, log: Log): void {
  const code = paths.filter(isCode);
  const faults = licenseFaults(policy, license);
  if (policy.allowUnsafe === 'never') faults.push(...paths.filter(isUnsafeName).map((path) => `${path} can run code when it is loaded`));
  if (faults.length > 0) throw refusal(faults);
  if (code.length > 0) log.warn({ files: code }, 'the model brings Python files: trust_remote_code would run them');
}

function licenseFaults({ allowLicenses, denyLicenses, requireLicense }: Policy, license: string | undefined): string[] {
  const said = license?.trim().toLowerCase();
  const matches = (patterns: readonly string[]) => patterns.some((pattern) => said && globMatcher(pattern.toLowerCase())(said));
  if (!said) return requireLicense || allowLicenses.length > 0 ? ['the model names no licence'] : [];
  if (matches(denyLicenses)) return [`its licence ${said} is on --deny-licenses`];
  return allowLicenses.length > 0 && !matches(allowLicenses) ? [`its licence ${said} is not on --allow-licenses`] : [];
}

export interface LookOptions {
  policy: Policy;
  files: readonly { path: string; size: number }[];
  open: (path: string) => Promise<ByteSource>;
  /** Remembers what was read, where the same bytes will pass once more. */
  seen?: Seen;
  concurrency: number;
  signal: AbortSignal;
  log: Log;
}

/** Looks into every file that may be a pickle. Throws `refused` naming each file, and what it would import, as far as the policy forbids it. */
export async function checkContent({ policy, files, open, seen, concurrency, signal, log }: LookOptions): Promise<void> {
  const found = await mapLimited(
    files.filter(({ path }) => isCandidate(path)),
    concurrency,
    async ({ path, size }) => {
      const source = await open(path);
      const bytes: Bytes = {
        size,
        async read(offset, length) {
          const into = Buffer.alloc(length);
          await source.read(offset, into, signal);
          seen?.remember(path, offset, into);
          return into;
        },
      };
      try {
        return { path, ...(await inspect(bytes, path)) };
      } finally {
        await source.close();
      }
    },
  );
  const pickles = found.filter(({ pickle }) => pickle);
  const unsafe = pickles.filter((each) => each.unsafe.length > 0);
  const faults = (policy.allowUnsafe === 'never' ? pickles : policy.allowUnsafe === 'listed' ? unsafe : []).map(faultOf);
  const unseen = found.filter((each) => each.unseen.length > 0);
  if (policy.allowUnsafe === 'never')
    faults.push(...unseen.map((each) => `${each.path} holds what cannot be looked into: ${each.unseen.join(', ')}`));
  if (faults.length > 0) throw refusal(faults);
  for (const { path, unseen: what } of unseen) log.warn({ path, what }, 'not all of this archive was looked into');
  for (const { path, unsafe: imports } of unsafe)
    log.warn({ path, imports: imports.slice(0, maxShown) }, 'loading this pickle runs what it imports');
}

const maxShown = 10;

function faultOf({ path, unsafe }: Finding & { path: string }): string {
  if (unsafe.length === 0) return `${path} is a pickle`;
  const more = unsafe.length > maxShown ? ` and ${unsafe.length - maxShown} more` : '';
  return `${path} is a pickle with ${unsafe.slice(0, maxShown).join(', ')}${more}`;
}

function refusal(faults: readonly string[]): StepError {
  const more = faults.length > maxShown ? `; and ${faults.length - maxShown} more` : '';
  return new StepError('refused', `failed to accept the model: ${faults.slice(0, maxShown).join('; ')}${more}`, {
    hint: 'leave files out with --ignore-patterns, or change the policy: --allow-unsafe, --allow-licenses, --deny-licenses, --require-license',
  });
}
