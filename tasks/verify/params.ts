import { schema, type ValuesOf } from '../../lib/params/declare.ts';
import { existingParams, sourceParams } from '../../lib/params/groups/existing.ts';
import { hubParams } from '../../lib/params/groups/hub.ts';
import { modelParams, namingParams } from '../../lib/params/groups/model.ts';
import { waitParams } from '../../lib/params/groups/runs.ts';
import { s3Params, storeDirParams } from '../../lib/params/groups/store.ts';
import { networkParams, transferParams } from '../../lib/params/groups/transfer.ts';
import { manifestParams } from '../../lib/params/groups/workspace.ts';

export const params = schema({
  ...sourceParams,
  deep: { type: 'boolean', description: 'Read every byte, instead of trusting times, ETags and checksums on record.', default: false },
  repair: { type: 'boolean', description: 'Bring back what is wrong, and that alone.', default: false },
  ...modelParams,
  ...namingParams,
  ...existingParams,
  ...manifestParams,
  ...hubParams,
  ...s3Params,
  ...storeDirParams,
  ...waitParams,
  ...transferParams,
  ...networkParams,
});

export type VerifyParams = ValuesOf<typeof params>;
