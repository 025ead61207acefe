import { randomUUID } from 'node:crypto';
import { defineStep } from '../../lib/define-step.ts';
import { StepError } from '../../lib/errors.ts';
import { openBucket } from '../../lib/open-store.ts';
import { schema } from '../../lib/params/declare.ts';
import { s3Params } from '../../lib/params/groups/store.ts';
import { networkParams } from '../../lib/params/groups/transfer.ts';
import { cleanUp } from './clean-up.ts';
import { reach } from './connect.ts';
import { Findings } from './findings.ts';
import { askMultiparts } from './multiparts.ts';
import { askObjects } from './objects.ts';
import { showReport } from './report.ts';
import { recommend } from './settings.ts';

/** Without these no model can be kept. */
const needed = ['read-write', 'range', 'multipart'];

/** Who asks what a store can do does not wait for one that is not there. */
const patience = { retries: 2, stallTimeout: 15_000 };

export const doctor = defineStep({
  name: 'doctor',
  summary: 'Asks an S3 what it can do, and tells the settings for it: ours, KServe, vLLM.',
  product: 'text',
  params: schema(
    {
      ...s3Params,
      ...networkParams,
    },
    ['s3Bucket'],
  ),
  results: {
    's3-path-style': 'true or false: what the endpoint answers to.',
    's3-checksum': 'crc32 or sha256: what it verifies.',
    'conditional-writes': 'yes, no or unknown: whether several runs may publish at once.',
  },
  async run(params, ctx) {
    const options = openBucket({ ...params, ...patience }, ctx).options;
    const found = new Findings(ctx.signal);
    const { settings } = options;
    const reached = await reach(options, found);
    const prefix = `${params.controlPrefix}/doctor/${randomUUID()}`;
    if (!ctx.dryRun) {
      try {
        await askObjects(reached.s3, prefix, found);
        if (found.verdict('read-write') === 'yes') await askMultiparts(reached.s3, prefix, found);
      } finally {
        await cleanUp(reached.s3, prefix);
      }
      ctx.signal.throwIfAborted();
    }
    const recommended = recommend({ settings, ...reached, caBundle: params.caBundle }, found);
    const uri = `s3://${settings.bucket}${settings.endpoint === undefined ? '' : ` at ${settings.endpoint}`}`;
    const { pathStyle, region } = reached;
    const record = {
      bucket: settings.bucket,
      endpoint: settings.endpoint ?? null,
      region,
      pathStyle,
      checks: found.list,
      settings: recommended,
    };
    ctx.print(ctx.terminal ? showReport(uri, found.list, recommended) : `${JSON.stringify(record)}\n`);
    if (!ctx.dryRun) checkNeeded(found);
    return {
      's3-path-style': String(pathStyle),
      's3-checksum': recommended.modelferry.S3_CHECKSUM ?? '',
      'conditional-writes': found.verdict('put-if-absent'),
    };
  },
});

/** Throws `denied` or `refused` when the answer as a whole is that no model can be kept here; the report has been printed by then. */
function checkNeeded(found: Findings): void {
  const missing = needed.filter((check) => found.verdict(check) !== 'yes');
  if (missing.length === 0) return;
  const details = missing.map((check) => `${check} (${found.detail(check) ?? found.verdict(check)})`);
  const denied = missing.some((check) => found.detail(check) === 'denied');
  throw new StepError(denied ? 'denied' : 'refused', `failed to find what models need in this store: ${details.join(', ')}`, {
    hint: denied ? 'the policy must allow s3:GetObject, PutObject, DeleteObject, ListBucket and AbortMultipartUpload there' : undefined,
  });
}
