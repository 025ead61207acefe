import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { commonParameters, runArgo } from './argo.ts';
import { applyObjects, getObject, type KubeObject } from './kubectl.ts';
import { bytesAt } from './read-back.ts';
import { openSite, type Site } from './site.ts';

/** The artifact repository of the test cluster: its bucket, and the secret of its keys, which each namespace needs. */
const repository = 'argo-artifacts';
const secret = await getObject<KubeObject & { data: Record<string, string> }>('default', 'secret', repository);

describe.skipIf(secret === undefined)('the component compress-report', () => {
  let site: Site;
  beforeAll(async () => {
    site = await openSite({ components: ['compress-report'] });
    await applyObjects(site.namespace, [{ apiVersion: 'v1', kind: 'Secret', metadata: { name: repository }, data: secret?.data }]);
  });
  afterAll(async () => await site?.close());

  test('keeps the report as artifacts, and passes a model without a method on', async () => {
    const name = site.unique('argo-reported');
    const parameters = { ...commonParameters(site), 'model-id': 'acme/tiny-llama', 'model-name': name };
    const run = await runArgo(site, { parameters: { ...parameters, method: 'fp8-dynamic' } });
    expect(run.phase, run.watch.logs).toBe('Succeeded');
    const kept = new Map(run.nodes.flatMap(({ outputs }) => outputs?.artifacts ?? []).map((each) => [each.name, each.s3?.key ?? '']));
    const read = async (artifact: string) => Buffer.from(await bytesAt(repository, kept.get(artifact) ?? '')).toString();
    expect(JSON.parse(await read('report-json'))).toMatchObject({ method: 'fp8-dynamic' });
    expect(await read('report')).toMatch(/^<!doctype html>/i);

    const passed = await runArgo(site, { parameters });
    expect(passed.phase, passed.watch.logs).toBe('Succeeded');
  });
});
