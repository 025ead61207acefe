import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Bed, hubToken, settings } from './bed.ts';
import type { Namespace } from './kubernetes.ts';
import { endOfWorkflow, runWorkflow, startWorkflow } from './runs.ts';

describe('Argo', () => {
  const bed = new Bed();
  let namespace: Namespace;
  let hub: string;
  beforeAll(async () => {
    await bed.setUp();
    namespace = await bed.namespace('argo');
    hub = await bed.hub(namespace);
  });
  afterAll(() => bed.tearDown());

  const params = (more: Record<string, string>) => ({
    'hub-url': hub,
    's3-bucket': bed.bucket,
    's3-endpoint-url': settings.s3,
    'model-registry-url': settings.registry,
    'workspace-size': '1Gi',
    ...more,
  });

  test('imports a model into the bucket and the registry, and again without sending a byte', async () => {
    const name = `tiny-${bed.id}`;
    const run = await runWorkflow(namespace, 'import-model', params({ 'model-id': 'acme/tiny-llama', 'model-name': name }));
    expect(run.phase, run.message).toBe('Succeeded');
    const manifest = await bed.expectPublished(run.outputs['model-uri'] ?? '');
    expect(run.outputs.commit).toBe(manifest.source.commit);
    const registered = await bed.registered(name, manifest.source.commit.slice(0, 12));
    expect(registered?.artifact).toMatchObject({ state: 'LIVE', uri: run.outputs['model-uri'], id: run.outputs['model-artifact-id'] });
    const again = await runWorkflow(namespace, 'import-model', params({ 'model-id': 'acme/tiny-llama', 'model-name': name }));
    expect(again.outputs).toEqual({ ...run.outputs, 'uploaded-bytes': '0', unchanged: 'true' });
    expect(await namespace.list('pvc')).toEqual([]);
  });

  test('runs under any uid, as OpenShift gives one', async () => {
    const name = `uid-${bed.id}`;
    const securityContext = { runAsUser: 1000660000, runAsNonRoot: true, fsGroup: 1000660000, seccompProfile: { type: 'RuntimeDefault' } };
    const run = await runWorkflow(namespace, 'import-model', params({ 'model-id': 'acme/tiny-llama', 'model-name': name }), {
      securityContext,
    });
    expect(run.phase, run.message).toBe('Succeeded');
    await bed.expectPublished(run.outputs['model-uri'] ?? '');
  });

  test('runs where the restricted Pod Security Standard is enforced', async () => {
    const restricted = await bed.namespace('strict', { level: 'restricted' });
    const run = await runWorkflow(restricted, 'import-model', params({ 'model-id': 'acme/tiny-llama', 'model-name': `strict-${bed.id}` }));
    expect(run.phase, run.message).toBe('Succeeded');
    await bed.expectPublished(run.outputs['model-uri'] ?? '');
  });

  test('two workflows on one target wait for each other', async () => {
    const name = `both-${bed.id}`;
    const given = params({ 'model-id': 'acme/large-llama', 'model-name': name });
    const names = [await startWorkflow(namespace, 'import-model', given), await startWorkflow(namespace, 'import-model', given)];
    const runs = await Promise.all(names.map((each) => endOfWorkflow(namespace, each)));
    expect(runs.map(({ phase }) => phase)).toEqual(['Succeeded', 'Succeeded']);
    expect(runs.map(({ outputs }) => outputs.unchanged).sort()).toEqual(['false', 'true']);
    await bed.expectPublished(runs[0]?.outputs['model-uri'] ?? '');
  });

  test('a gated model without a token: exit code 4, nothing published, the reservation abandoned', async () => {
    const name = `gated-${bed.id}`;
    const before = await bed.keys();
    const run = await runWorkflow(
      namespace,
      'import-model',
      params({ 'model-id': 'acme/gated-llama', 'model-name': name, 'model-version': '1' }),
    );
    expect(run.phase).toBe('Failed');
    const failed = run.pods.filter(({ phase }) => phase === 'Failed');
    expect(failed.map(({ exitCode }) => exitCode)).toEqual(['4']);
    expect((await bed.keys()).filter((key) => !before.includes(key) && key.includes(name))).toEqual([]);
    expect((await bed.registered(name, '1'))?.artifact.state).toBe('ABANDONED');
  });

  test('a token opens it and stands in no log', async () => {
    await namespace.secret('huggingface-secret', { HUGGINGFACE_TOKEN: hubToken });
    const run = await runWorkflow(
      namespace,
      'import-model',
      params({ 'model-id': 'acme/gated-llama', 'model-name': `open-${bed.id}`, 'log-level': 'trace' }),
    );
    expect(run.phase, run.message).toBe('Succeeded');
    const said = await namespace.logs(run.selector);
    expect(said).toContain('download done');
    expect(said).not.toContain(hubToken);
    expect(said).not.toContain(settings.secretAccessKey);
  });

  test('a fault that passes ends the pod with 5, and the retried pod goes on', async () => {
    const faulty = await bed.hub(namespace, { name: 'faulty', faults: [{ on: 'GET .*tree', status: 503, times: 1 }] });
    const given = params({ 'hub-url': faulty, 'model-id': 'acme/tiny-llama', 'model-name': `retried-${bed.id}`, retries: '0' });
    const run = await runWorkflow(namespace, 'import-model', given);
    expect(run.phase, run.message).toBe('Succeeded');
    expect(run.pods.map(({ exitCode }) => exitCode)).toContain('5');
    await bed.expectPublished(run.outputs['model-uri'] ?? '');
  });
});
