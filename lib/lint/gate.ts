import { StepError } from '../errors.ts';
import type { Log } from '../log.ts';
import type { GroupValues } from '../params/declare.ts';
import type { lintParams } from '../params/groups/publishing.ts';
import type { Finding } from './model.ts';

export interface GateOptions extends GroupValues<typeof lintParams> {
  /** For people: where it would be published. */
  uri: string;
  log: Log;
}

/** Says what may keep a server from a model that is about to be published. Throws `refused` when there are errors and `--lint error` forbids them. */
export async function checkServing(findings: () => Promise<readonly Finding[]>, { lint, uri, log }: GateOptions): Promise<void> {
  if (lint === 'off') return;
  const found = await findings();
  for (const { severity, rule, text } of found) log.warn({ severity, rule }, text);
  const errors = found.filter(({ severity }) => severity === 'error');
  if (lint === 'warn' || errors.length === 0) return;
  throw new StepError('refused', `failed to publish ${uri}: ${errors.map(({ text }) => text).join('; ')}`, {
    hint: '--lint warn publishes it all the same',
  });
}
