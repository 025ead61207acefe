import { group, sha256Shape } from '../declare.ts';

/** Same for every try of one run. */
export const runParams = group('Publishing', {
  runId: {
    type: 'string',
    pattern: '^[A-Za-z0-9._:/-]{1,200}$',
    'x-shape': 'a name of letters, digits and . _ : / -, 200 at most',
    description: 'Name of this run: a retry with the same one goes on at once.',
  },
});

export const waitParams = group('Waiting', {
  waitTimeout: { type: 'string', 'x-unit': 'ms', default: '1h', description: 'Wait so long for another run that works on the same model.' },
});

export const planParams = group('Plan', {
  plan: { type: 'string', description: "Key of a plan, as the plan step's result gives it." },
  planSha256: { ...sha256Shape, description: 'Digest that the plan must have.' },
});
