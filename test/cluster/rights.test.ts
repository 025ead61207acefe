import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { kubectl, run } from './kubectl.ts';

const namespace = `modelferry-rights-${randomBytes(3).toString('hex')}`;
beforeAll(async () => {
  await kubectl('create', 'namespace', namespace);
  await kubectl('-n', namespace, 'apply', '-f', join(import.meta.dirname, '../../workflows/rbac.yaml'));
});
afterAll(async () => {
  await kubectl('delete', 'namespace', namespace, '--wait=false');
});

/** Whether our service account may do that; kubectl says `no` with exit code 1. */
async function may(verb: string, resource: string, where = namespace): Promise<boolean> {
  const account = `system:serviceaccount:${namespace}:modelferry`;
  const answer = await run('kubectl', ['-n', where, 'auth', 'can-i', verb, resource, '--as', account]).catch(
    (error: Error) => error.message,
  );
  return answer.trim() === 'yes';
}

describe('the service account of the workflows', () => {
  test.each([
    ['create', 'workflowtaskresults.argoproj.io'],
    ['patch', 'workflowtaskresults.argoproj.io'],
    ['create', 'persistentvolumeclaims'],
    ['delete', 'persistentvolumeclaims'],
  ])('may %s %s', async (verb, resource) => {
    expect(await may(verb, resource)).toBe(true);
    expect(await may(verb, resource, 'default')).toBe(false);
  });

  test.each([
    ['get', 'secrets'],
    ['list', 'secrets'],
    ['get', 'configmaps'],
    ['create', 'pods'],
    ['get', 'pods'],
    ['create', 'pods/exec'],
    ['create', 'serviceaccounts/token'],
    ['list', 'persistentvolumeclaims'],
    ['create', 'workflows.argoproj.io'],
    ['create', 'rolebindings.rbac.authorization.k8s.io'],
    ['get', 'nodes'],
    ['*', '*'],
  ])('may not %s %s', async (verb, resource) => {
    expect(await may(verb, resource)).toBe(false);
  });
});
