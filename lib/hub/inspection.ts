import { checkServing } from '../lint/gate.ts';
import { lintProfileOf } from '../lint/lint.ts';
import type { Log } from '../log.ts';
import type { GroupValues } from '../params/declare.ts';
import type { lintParams } from '../params/groups/publishing.ts';
import { checkContent, type Policy } from '../policy/policy.ts';
import type { Seen } from '../policy/seen.ts';
import { type HubModel, openerOf } from './content.ts';
import { lintHub } from './lint.ts';

/** What is looked at before a model on the Hub is published, and for whom: `seen` remembers the bytes that were looked at. */
export interface InspectionOptions {
  params: Policy & GroupValues<typeof lintParams>;
  /** For people: where it is to lie. */
  uri: string;
  log: Log;
  seen?: Seen | undefined;
}

/** Says what may keep a server from a model on the Hub. Throws `refused` as checkServing does. */
export async function checkHubServing(model: HubModel, { params, uri, log }: InspectionOptions, signal: AbortSignal): Promise<void> {
  await checkServing(() => lintHub(model, model.files, lintProfileOf(model), signal), { lint: params.lint, uri, log });
}

/** That, and a look into the files that may run code. Throws `refused` as both do. */
export async function inspectHub(model: HubModel, options: InspectionOptions, signal: AbortSignal): Promise<void> {
  await checkHubServing(model, options, signal);
  const { params: policy, log, seen } = options;
  const { files, concurrency } = model;
  await checkContent({ policy, files, open: openerOf(model), seen, concurrency, signal, log });
}
