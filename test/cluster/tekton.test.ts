import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { tinyLlama } from '../fakes/model.ts';
import { kubectl } from './kubectl.ts';
import { expectNotPublished, expectPublished, makeBucket, registryRecord } from './read-back.ts';
import { settings } from './settings.ts';
import { giveToken, makeClaim, openSite, readExample, type Site, startHub } from './site.ts';
import { params, resultsOf, runTekton, s3Credentials, volume } from './tekton.ts';

let site: Site;
beforeAll(async () => {
  site = await openSite();
});
afterAll(async () => await site?.close());

// On plain Kubernetes a volume belongs to root until somebody says otherwise; modelcar's runs leave that to the cluster's default.
const podTemplate = { taskRunTemplate: { podTemplate: { securityContext: { fsGroup: 65532 } } } };

function importModel(values: Record<string, string>): object {
  const common = { 's3-bucket': site.bucket, 's3-endpoint-url': settings.s3.url, 'model-registry-url': settings.registry.url };
  return {
    pipelineRef: { name: 'import-model' },
    ...podTemplate,
    params: params({ ...common, ...values }),
    workspaces: [volume('workspace'), s3Credentials],
  };
}

/** The example of many pods, with the addresses of this cluster. It has no volume, and so needs no group. */
function syncModel(values: Record<string, string>): object {
  const { spec } = parse(readExample('tekton/examples/sync-model-run.yaml')) as { spec: object };
  const common = { 's3-bucket': site.bucket, 's3-endpoint-url': settings.s3.url, 'model-registry-url': settings.registry.url };
  return { ...spec, params: params({ ...common, ...values }) };
}

/** The example, with the addresses of this cluster. */
function modelcar(values: Record<string, string>, claim: string): object {
  const { spec } = parse(readExample('tekton/examples/modelcar-run.yaml')) as { spec: Record<string, unknown> };
  const common = { MODEL_REGISTRY_URL: settings.registry.url, S3_BUCKET: site.bucket, S3_ENDPOINT_URL: settings.s3.url };
  return {
    ...spec,
    params: params({ ...common, ...values }),
    workspaces: [{ name: 'shared-workspace', persistentVolumeClaim: { claimName: claim } }, s3Credentials],
  };
}

describe.concurrent('Tekton', () => {
  test('import-model brings a model into the bucket and the registry', async () => {
    const name = site.unique('tekton-tiny-llama');
    const run = await runTekton(site, importModel({ 'model-id': 'acme/tiny-llama', 'model-name': name }));
    expect(run.succeeded, `${run.message}\n${run.watch.logs}`).toBe(true);
    expect([...run.tasks.keys()].sort()).toEqual(['complete', 'compress', 'download', 'reserve', 'upload']);
    await expectPublished('Tekton import-model', run.results, { name, files: tinyLlama() });
    expect(run.results['model-ARTIFACT_DIGEST']).toBe(`sha256:${run.results['manifest-sha256']}`);
  });

  test('a gated model without a token: exit code 4, nothing published, the reservation abandoned', async () => {
    const name = site.unique('tekton-gated');
    const run = await runTekton(site, importModel({ 'model-id': 'acme/gated-llama', 'model-name': name, 'hub-token-secret': 'not-there' }));
    expect(run.succeeded).toBe(false);
    expect(run.tasks.get('download')?.status?.steps?.[0]?.terminated?.exitCode).toBe(4);
    expect(run.tasks.get('download')?.status?.retriesStatus?.length).toBe(2);
    const artifact = await registryRecord(`model_artifacts/${resultsOf(run.tasks.get('reserve'))['model-artifact-id']}`);
    expect(artifact.state).toBe('ABANDONED');
    expect(run.watch.logs).not.toContain(settings.s3.secretAccessKey);
    await expectNotPublished(site.bucket, name);
  });

  test('a fault that passes is tried again in a new pod', async () => {
    const name = site.unique('tekton-flaky');
    const hub = await startHub(site.namespace, 'flaky', [{ side: 'cdn', on: '^GET', status: 503 }]);
    const run = await runTekton(site, importModel({ 'model-id': 'acme/tiny-llama', 'model-name': name, 'hub-url': hub, retries: '0' }));
    expect(run.succeeded, `${run.message}\n${run.watch.logs}`).toBe(true);
    // Without retries of its own a pod may also meet what passes on a busy cluster: each try but the last ended with 5.
    expect(run.tasks.get('download')?.status?.retriesStatus?.length ?? 0, run.watch.logs).toBeGreaterThan(0);
    const codes = run.watch.pods.map(({ exitCode }) => exitCode);
    expect(codes.filter((code) => code === 0).length, run.watch.logs).toBe(5);
    expect(new Set(codes), run.watch.logs).toEqual(new Set([0, 5]));
    await expectPublished('Tekton import-model, after a 503', run.results, { name, files: tinyLlama() });
  });

  test('sync-model brings a model by four pods, one of them lost in the middle, and leaves what import-model leaves', async () => {
    const [name, twin] = [site.unique('tekton-shards'), site.unique('tekton-shards-twin')];
    const silent = [{ side: 'cdn', on: '^GET', skip: 4, stallAfter: 1000 }];
    const hub = await startHub(site.namespace, 'shards', silent, { SHARD_BYTES: '30000000' });
    const values = { 'model-id': 'acme/large-llama', 'hub-url': hub, 'part-size': '5MiB' };
    let lost = '';
    const more = { 'model-name': name, shards: '4', concurrency: '2', 'stall-timeout': '10m' };
    const run = await runTekton(site, syncModel({ ...values, ...more }), 'tekton.dev/v1', async (watch) => {
      const pods = (await watch.look()).filter(({ metadata }) => metadata.labels?.['tekton.dev/pipelineTask'] === 'shard');
      const running = pods.filter(({ metadata, status }) => status?.phase === 'Running' && !watch.ended.has(metadata.name));
      if (lost !== '' || pods.length < 4 || running.length !== 1 || pods.some(({ status }) => status?.phase === 'Pending')) return;
      lost = running[0]?.metadata.name ?? '';
      await kubectl('-n', site.namespace, 'delete', 'pod', lost, '--wait=false');
    });
    expect(run.succeeded, `${run.message}\n${run.watch.logs}`).toBe(true);
    expect(lost).toContain('shard');
    expect(run.watch.logs).toContain('going on with the uploads of an earlier run');
    expect([...run.tasks.keys()].sort()).toEqual(['complete', 'finish', 'plan', 'reserve', 'shard-0', 'shard-1', 'shard-2', 'shard-3']);
    const files = tinyLlama({ seed: 6, shardBytes: 30_000_000 });
    await expectPublished('Tekton sync-model, 4 shards, after a lost pod', run.results, { name, files });
    const imported = await runTekton(site, importModel({ ...values, 'model-name': twin }));
    expect(imported.succeeded, `${imported.message}\n${imported.watch.logs}`).toBe(true);
    expect(run.results['manifest-sha256']).toBe(imported.results['manifest-sha256']);
  });

  test('sync-model of a gated model without a token: nothing published, no claim, no upload, the reservation abandoned', async () => {
    const name = site.unique('tekton-shards-gated');
    const model = { 'model-id': 'acme/gated-llama', 'model-name': name, 'hub-token-secret': 'not-there' };
    // Who looks whether the model will serve is refused in plan already.
    const run = await runTekton(site, syncModel({ ...model, lint: 'off' }));
    expect(run.succeeded).toBe(false);
    expect(run.tasks.get('shard-0')?.status?.steps?.[0]?.terminated?.exitCode).toBe(4);
    expect([...run.tasks.keys()]).toContain('abandon-plan');
    const artifact = await registryRecord(`model_artifacts/${resultsOf(run.tasks.get('reserve'))['model-artifact-id']}`);
    expect(artifact.state).toBe('ABANDONED');
    await expectNotPublished(site.bucket, name);
  });

  test('a modelcar PipelineRun, v1beta1 and without a podTemplate, runs as it is', async () => {
    const name = site.unique('modelcar-tiny-llama');
    await makeClaim(site.namespace, 'modelcar-storage');
    const values = { HUGGINGFACE_MODEL: 'acme/junk-llama', MODEL_NAME: name, MODEL_VERSION: '1.0' };
    const spec = modelcar(values, 'modelcar-storage');
    const run = await runTekton(site, spec, 'tekton.dev/v1beta1');
    expect(run.succeeded, `${run.message}\n${run.watch.logs}`).toBe(true);
    expect([...run.tasks.keys()].sort()).toEqual([
      'compress-model',
      'pull-model-from-huggingface',
      'register-with-registry',
      'upload-model-to-s3',
    ]);
    const files = new Map([...tinyLlama({ seed: 5, junk: true })].filter(([path]) => /\.(safetensors|json|txt)$/.test(path)));
    await expectPublished('modelcar-pipeline', run.results, { name, files });
    expect(run.results['model-uri']).toBe(`s3://${site.bucket}/model-data/${name}/1.0/`);

    // The same workspace again, with one task skipped: the model that is there is passed on.
    const again = modelcar({ ...values, SKIP_TASKS: 'pull-model-from-huggingface,compress-model' }, 'modelcar-storage');
    const second = await runTekton(site, again, 'tekton.dev/v1beta1');
    expect(second.succeeded, `${second.message}\n${second.watch.logs}`).toBe(true);
    expect(second.results).toMatchObject({ 'model-uri': run.results['model-uri'], 'model-artifact-id': run.results['model-artifact-id'] });
    expect(resultsOf(second.tasks.get('upload-model-to-s3')).unchanged).toBe('true');
  });

  test('a modelcar PipelineRun takes the token of huggingface-secret', async () => {
    const name = site.unique('modelcar-granted');
    await giveToken(site.namespace, 'huggingface-secret', 'hf_granted');
    await makeClaim(site.namespace, 'modelcar-granted');
    const values = { HUGGINGFACE_MODEL: 'acme/gated-llama', MODEL_NAME: name, MODEL_VERSION: '2.0' };
    const run = await runTekton(site, modelcar(values, 'modelcar-granted'), 'tekton.dev/v1beta1');
    expect(run.succeeded, `${run.message}\n${run.watch.logs}`).toBe(true);
    expect(run.watch.logs).not.toContain('hf_granted');
    const files = new Map([...tinyLlama({ seed: 3 })].filter(([path]) => /\.(safetensors|json|txt)$/.test(path)));
    await expectPublished('modelcar-pipeline, gated', run.results, { name, files });
  });

  test('import-many runs the whole import for each model of a list', async () => {
    const example = parse(readExample('tekton/examples/import-many.yaml')) as { spec: { pipelineSpec: object } };
    const ids = ['acme/tiny-llama', 'acme/junk-llama'];
    await makeBucket(`${site.bucket}-many`);
    const run = await runTekton(site, {
      ...example.spec,
      ...podTemplate,
      params: params({
        'model-ids': ids,
        's3-bucket': `${site.bucket}-many`,
        's3-endpoint-url': settings.s3.url,
      }),
      workspaces: [volume('workspace'), s3Credentials],
    });
    expect(run.succeeded, `${run.message}\n${run.watch.logs}`).toBe(true);
    const results = [...run.tasks.values()].map(resultsOf);
    expect(results.length).toBe(2);
    for (const [name, files] of [['tiny-llama', tinyLlama()] as const, ['junk-llama', tinyLlama({ seed: 5, junk: true })] as const]) {
      const own = results.find((each) => each['model-uri']?.includes(`/${name}/`)) ?? {};
      await expectPublished('Tekton import-many', own, { name, files, registered: false });
    }
  });
});
