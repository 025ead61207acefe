import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseDocument } from 'yaml';
import { Bed, settings } from './bed.ts';
import type { Namespace } from './kubernetes.ts';
import { endOfPipeline, runWorkflow, volumeClaimTemplate } from './runs.ts';

const examples = (folder: string, name: string) => readFile(join(import.meta.dirname, '../..', folder, 'examples', name), 'utf8');
const models = ['acme/tiny-llama', 'acme/junk-llama'];

describe('many models from a list', () => {
  const bed = new Bed();
  let namespace: Namespace;
  let hub: string;
  beforeAll(async () => {
    await bed.setUp();
    namespace = await bed.namespace('batch');
    hub = await bed.hub(namespace);
  });
  afterAll(() => bed.tearDown());

  const published = async () => {
    const keys = await bed.keys('.modelferry/manifests/');
    for (const key of keys) {
      await bed.expectPublished(`s3://${bed.bucket}/${key.replace('.modelferry/manifests/', '').replace(/\.json$/, '')}/`);
    }
    return keys.length;
  };

  test('Argo runs a workflow for each', async () => {
    await namespace.apply(await examples('workflows', 'import-many.yaml'));
    const common = {
      'hub-url': hub,
      's3-bucket': bed.bucket,
      's3-endpoint-url': settings.s3,
      'workspace-size': '1Gi',
      'key-template': 'argo/{repo}/{version}',
    };
    const run = await runWorkflow(namespace, 'import-many', {
      models: JSON.stringify(models.map((id) => ({ 'model-id': id }))),
      common: JSON.stringify(common),
    });
    expect(run.phase, run.message).toBe('Succeeded');
    expect(await published()).toBe(2);
  });

  test('Tekton runs one Task for each', async () => {
    const before = await published();
    const document = parseDocument(await examples('tekton', 'import-many.yaml'));
    const run = document.toJS() as {
      spec: { params: { name: string; value: unknown }[]; pipelineSpec: { tasks: { params: object[] }[] } };
    };
    const values: Record<string, unknown> = {
      'model-ids': models,
      's3-bucket': bed.bucket,
      's3-endpoint-url': settings.s3,
      'model-registry-url': '',
    };
    run.spec.params = Object.entries(values).map(([name, value]) => ({ name, value }));
    run.spec.pipelineSpec.tasks[0]?.params.push(
      { name: 'hub-url', value: hub },
      { name: 'key-template', value: 'tekton/{repo}/{version}' },
    );
    Object.assign(run.spec, {
      workspaces: [
        { name: 'workspace', volumeClaimTemplate },
        { name: 's3-credentials', secret: { secretName: 's3-credentials' } },
      ],
    });
    const ended = await endOfPipeline(namespace, await namespace.create(run));
    expect(ended.succeeded, ended.message).toBe(true);
    expect(await published()).toBe(before + 2);
  });
});
