import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sizeOf } from '../fakes/content.ts';
import { tinyLlama } from '../fakes/model.ts';
import { commonParameters, readArgo, runArgo, triesOf, waitForArgo } from './argo.ts';
import { kubectl, listObjects, run, until } from './kubectl.ts';
import { expectNotPublished, expectPublished, registryRecord } from './read-back.ts';
import { applyFile, claimIsGoing, giveToken, openSite, type Site, startHub } from './site.ts';

const argoCommand = await run('argo', ['version']).then(
  () => true,
  () => false,
);

let site: Site;
beforeAll(async () => {
  site = await openSite();
});
afterAll(async () => await site?.close());

describe.concurrent('Argo Workflows', () => {
  test('import-model brings a model into the bucket and the registry, and takes its volume away', async () => {
    const name = site.unique('argo-tiny-llama');
    const run = await runArgo(site, { parameters: { ...commonParameters(site), 'model-id': 'acme/tiny-llama', 'model-name': name } });
    expect(run.phase, run.watch.logs).toBe('Succeeded');
    await expectPublished('Argo import-model', run.results, { name, files: tinyLlama() });
    expect(run.results['model-ARTIFACT_URI']).toBe(run.results['model-uri']);
    expect(run.results['model-ARTIFACT_DIGEST']).toBe(`sha256:${run.results['manifest-sha256']}`);
    expect(await claimIsGoing(site.namespace, run.name)).toBe(true);
  });

  test('import-model with a method brings a smaller model, and the registry says what it is', async () => {
    const name = site.unique('argo-fp8');
    const parameters = { ...commonParameters(site), 'model-id': 'acme/tiny-llama', 'model-name': name, method: 'fp8-dynamic' };
    const run = await runArgo(site, { parameters });
    expect(run.phase, run.watch.logs).toBe('Succeeded');
    const {
      'model-version-id': version,
      'model-artifact-id': artifact,
      commit,
      'manifest-sha256': sha256,
      'total-bytes': bytes,
    } = run.results;
    expect(run.results['model-uri']).toMatch(new RegExp(`/${name}/${commit?.slice(0, 12)}-fp8-dynamic/$`));
    const said = {
      'modelferry.method': { string_value: 'fp8-dynamic' },
      'modelferry.commit': { string_value: commit },
      'modelferry.total_bytes': { double_value: Number(bytes) },
      'modelferry.manifest_sha256': { string_value: sha256 },
    };
    expect(await registryRecord(`model_versions/${version}`)).toMatchObject({ customProperties: said });
    expect(await registryRecord(`model_artifacts/${artifact}`)).toMatchObject({
      state: 'LIVE',
      uri: run.results['model-uri'],
      customProperties: said,
    });
    expect(Number(bytes)).toBeLessThan([...tinyLlama().values()].reduce((sum, content) => sum + sizeOf(content), 0));
    const compressed = run.watch.pods.find(({ log }) => log.includes('compress done'));
    expect(compressed?.exitCode).toBe(0);
  });

  test('without a registry nothing is registered, and the rest is as ever', async () => {
    const name = site.unique('argo-unregistered');
    const { 'model-registry-url': _, ...parameters } = commonParameters(site);
    const run = await runArgo(site, { parameters: { ...parameters, 'model-id': 'acme/tiny-llama', revision: 'next', 'model-name': name } });
    expect(run.phase, run.watch.logs).toBe('Succeeded');
    expect(run.results).toMatchObject({ 'registered-model-id': '', 'model-version-id': '', 'model-artifact-id': '' });
    await expectPublished('Argo import-model without a registry', run.results, { name, files: tinyLlama({ seed: 2 }), registered: false });
  });

  test('a gated model with a token that may not read it: exit code 4, nothing published, the reservation abandoned, no token told', async () => {
    const name = site.unique('argo-gated');
    await giveToken(site.namespace, 'stranger', 'hf_stranger');
    const parameters = { ...commonParameters(site), 'model-id': 'acme/gated-llama', 'model-name': name, 'hub-token-secret': 'stranger' };
    const run = await runArgo(site, { parameters });
    expect(run.phase).toBe('Failed');
    const failed = run.watch.pods.filter(({ exitCode }) => exitCode !== 0);
    expect(failed.map(({ exitCode }) => exitCode)).toEqual([4]);
    expect(triesOf(run, 'download')).toMatchObject([{ phase: 'Failed', exitCode: '4' }]);
    expect(failed[0]?.log).toContain('acme/gated-llama');
    expect(run.watch.logs).not.toContain('hf_stranger');
    await expectNotPublished(site.bucket, name);
    const artifact = await registryRecord(`model_artifacts/${run.results['reserved-artifact-id']}`);
    expect(artifact.state).toBe('ABANDONED');
    expect(await claimIsGoing(site.namespace, run.name), 'the volume stays for argo retry').toBe(false);
  });

  test.skipIf(!argoCommand)('argo retry goes on where a refused run ended, on the same volume and reservation', async () => {
    const name = site.unique('argo-retried');
    await giveToken(site.namespace, 'late', 'hf_stranger');
    const parameters = { ...commonParameters(site), 'model-id': 'acme/gated-llama', 'model-name': name, 'hub-token-secret': 'late' };
    const refused = await runArgo(site, { parameters });
    expect(triesOf(refused, 'download')).toMatchObject([{ exitCode: '4' }]);
    await giveToken(site.namespace, 'late', 'hf_granted');
    await run('argo', ['-n', site.namespace, 'retry', refused.name]);
    const retried = await waitForArgo(site, refused.name);
    expect(retried.phase, retried.watch.logs).toBe('Succeeded');
    expect(retried.results['model-artifact-id']).toBe(refused.results['reserved-artifact-id']);
    await expectPublished('Argo import-model, argo retry', retried.results, { name, files: tinyLlama({ seed: 3 }) });
  });

  test('a gated model with a token that may read it', async () => {
    const name = site.unique('argo-granted');
    await giveToken(site.namespace, 'huggingface-secret', 'hf_granted');
    const run = await runArgo(site, { parameters: { ...commonParameters(site), 'model-id': 'acme/gated-llama', 'model-name': name } });
    expect(run.phase, run.watch.logs).toBe('Succeeded');
    expect(run.watch.logs).not.toContain('hf_granted');
    await expectPublished('Argo import-model, gated', run.results, { name, files: tinyLlama({ seed: 3 }) });
  });

  test('a fault that passes is tried again in a new pod', async () => {
    const name = site.unique('argo-flaky');
    const hub = await startHub(site.namespace, 'flaky', [{ side: 'cdn', on: '^GET', status: 503 }]);
    const parameters = { ...commonParameters(site), 'model-id': 'acme/tiny-llama', 'model-name': name, 'hub-url': hub, retries: '0' };
    const run = await runArgo(site, { parameters });
    expect(run.phase, run.watch.logs).toBe('Succeeded');
    // Without retries of its own a pod may also meet what passes on a busy cluster: each try but the last ended with 5.
    const tries = triesOf(run, 'download');
    expect(tries.length, run.watch.logs).toBeGreaterThan(1);
    expect(tries, run.watch.logs).toMatchObject([...tries.slice(1).map(() => ({ exitCode: '5' })), { phase: 'Succeeded' }]);
    await expectPublished('Argo import-model, after a 503', run.results, { name, files: tinyLlama() });
  });

  test('a pod tells its progress in bytes, and is started again when it is taken away', async () => {
    const name = site.unique('argo-killed');
    const hub = await startHub(site.namespace, 'silent', [{ side: 'cdn', on: '^GET', stallAfter: 1000 }]);
    const parameters = {
      ...commonParameters(site),
      'model-id': 'acme/tiny-llama',
      'model-name': name,
      'hub-url': hub,
      'stall-timeout': '10m',
    };
    const bytes = [...tinyLlama().values()].reduce((sum, content) => sum + sizeOf(content), 0);
    let progress = '';
    const run = await runArgo(site, {
      parameters,
      meanwhile: async ({ name: workflow, nodes }) => {
        const node = nodes.find(({ displayName }) => displayName === 'download(0)');
        if (progress !== '' || !node?.progress?.endsWith(`/${bytes}`)) return;
        progress = node.progress;
        const selector = `workflows.argoproj.io/workflow=${workflow}`;
        const pods = await listObjects(site.namespace, 'pods', selector);
        const pod = pods.find(({ metadata }) => metadata.name.includes('-download-'));
        await kubectl('-n', site.namespace, 'delete', 'pod', pod?.metadata.name ?? '', '--wait=false');
      },
    });
    expect(run.phase, run.watch.logs).toBe('Succeeded');
    expect(Number(progress.split('/')[0])).toBeLessThan(bytes);
    expect(triesOf(run, 'download').map(({ phase }) => phase)).toEqual([expect.stringMatching(/Error|Failed/), 'Succeeded']);
    await expectPublished('Argo import-model, after a lost pod', run.results, { name, files: tinyLlama() });
  });

  test('two runs on one target wait for each other, and the second finds the work done', async () => {
    const name = site.unique('argo-twins');
    const parameters = { ...commonParameters(site), 'model-id': 'acme/junk-llama', 'model-name': name };
    const runs = await Promise.all([runArgo(site, { parameters }), runArgo(site, { parameters })]);
    expect(runs.map(({ phase }) => phase)).toEqual(['Succeeded', 'Succeeded']);
    const times = runs
      .map(({ nodes }) => nodes.filter(({ displayName }) => /^(upload|complete)\(0\)$/.test(displayName)))
      .map((nodes) => ({
        from: nodes.map((node) => node.startedAt ?? '').sort()[0] ?? '',
        to:
          nodes
            .map((node) => node.finishedAt ?? '')
            .sort()
            .at(-1) ?? '',
      }))
      .sort((a, b) => a.from.localeCompare(b.from));
    expect((times[0]?.to ?? '') <= (times[1]?.from ?? ''), JSON.stringify(times)).toBe(true);
    expect(runs.map(({ results }) => results.unchanged).sort()).toEqual(['false', 'true']);
    expect(new Set(runs.map(({ results }) => results['model-artifact-id'])).size).toBe(1);
    for (const run of runs)
      await expectPublished('Argo import-model, twins', run.results, { name, files: tinyLlama({ seed: 5, junk: true }) });
  });

  test('sync-model brings a model by four pods, one of them lost in the middle, and leaves what import-model leaves', async () => {
    const [name, twin] = [site.unique('argo-shards'), site.unique('argo-shards-twin')];
    // One range of a large file never comes: its pod is taken away when its siblings are done.
    const silent = [{ side: 'cdn', on: '^GET', skip: 4, stallAfter: 1000 }];
    const hub = await startHub(site.namespace, 'shards', silent, { SHARD_BYTES: '30000000' });
    const parameters = { ...commonParameters(site), 'model-id': 'acme/large-llama', 'hub-url': hub, 'part-size': '5MiB' };
    let lost = '';
    const run = await runArgo(site, {
      template: 'sync-model',
      parameters: { ...parameters, 'model-name': name, shards: '4', concurrency: '2', 'stall-timeout': '10m' },
      meanwhile: async ({ name: workflow, nodes }) => {
        const tries = nodes.filter(({ type, displayName }) => type === 'Pod' && /^shard\(\d:\d\/4\)\(0\)$/.test(displayName));
        const running = tries.filter(({ phase }) => phase === 'Running');
        if (lost !== '' || tries.length < 4 || running.length !== 1) return;
        lost = running[0]?.displayName ?? '';
        const pods = await listObjects(site.namespace, 'pods', `workflows.argoproj.io/workflow=${workflow}`);
        const hash = running[0]?.id.split('-').at(-1) ?? 'none';
        const pod = pods.find(({ metadata }) => metadata.name.endsWith(hash));
        await kubectl('-n', site.namespace, 'delete', 'pod', pod?.metadata.name ?? '', '--wait=false');
      },
    });
    expect(run.phase, run.watch.logs).toBe('Succeeded');
    expect(lost).toMatch(/^shard\(\d:\d\/4\)\(0\)$/);
    const tries = triesOf(run, 'shard').map(({ phase }) => phase);
    expect(tries.filter((phase) => phase === 'Succeeded').length).toBe(4);
    expect(tries.length).toBe(5);
    expect(run.watch.logs).toContain('going on with the uploads of an earlier run');
    expect(run.nodes.filter(({ type, displayName }) => type === 'Pod' && /volume|download|upload/.test(displayName))).toEqual([]);
    const files = tinyLlama({ seed: 6, shardBytes: 30_000_000 });
    await expectPublished('Argo sync-model, 4 shards, after a lost pod', run.results, { name, files });

    const imported = await runArgo(site, { parameters: { ...parameters, 'model-name': twin } });
    expect(imported.phase, imported.watch.logs).toBe('Succeeded');
    expect(run.results['manifest-sha256']).toBe(imported.results['manifest-sha256']);
  });

  test.skipIf(!argoCommand)('a refused sync-model leaves neither claim nor upload, and argo retry goes on with its plan', async () => {
    const name = site.unique('argo-shards-retried');
    await giveToken(site.namespace, 'later', 'hf_stranger');
    const model = { 'model-id': 'acme/gated-llama', 'model-name': name, 'hub-token-secret': 'later' };
    // Who looks whether the model will serve is refused there already.
    const parameters = { ...commonParameters(site), ...model, lint: 'off' };
    const refused = await runArgo(site, { template: 'sync-model', parameters });
    expect(refused.phase).toBe('Failed');
    expect(triesOf(refused, 'shard').map(({ exitCode }) => exitCode)).toContain('4');
    expect(triesOf(refused, 'abandon-plan')).toMatchObject([{ phase: 'Succeeded' }]);
    await expectNotPublished(site.bucket, name);
    const artifact = await registryRecord(`model_artifacts/${refused.results['reserved-artifact-id']}`);
    expect(artifact.state).toBe('ABANDONED');
    await giveToken(site.namespace, 'later', 'hf_granted');
    await run('argo', ['-n', site.namespace, 'retry', refused.name]);
    const retried = await waitForArgo(site, refused.name);
    expect(retried.phase, retried.watch.logs).toBe('Succeeded');
    expect(retried.results.plan).toBe(refused.results.plan);
    await expectPublished('Argo sync-model, argo retry', retried.results, { name, files: tinyLlama({ seed: 3 }) });
  });

  test('import-many makes a workflow of each entry, and one that fails does not stop the others', async () => {
    await applyFile(site.namespace, 'workflows/examples/import-many.yaml');
    const names = ['argo-many-a', 'argo-many-b', 'argo-many-c'].map(site.unique);
    const models = [
      { 'model-id': 'acme/tiny-llama', 'model-name': names[0] },
      { 'model-id': 'acme/nothing-there', 'model-name': names[1] },
      { 'model-id': 'acme/tiny-llama', revision: 'next', 'model-name': names[2] },
    ];
    const run = await runArgo(site, {
      template: 'import-many',
      parameters: { models: JSON.stringify(models), common: JSON.stringify({ ...commonParameters(site), 'workspace-size': '1Gi' }) },
    });
    expect(run.phase).toBe('Failed');
    const made = JSON.parse(await kubectl('-n', site.namespace, 'get', 'workflows', '-o', 'json')) as {
      items: {
        metadata: { name: string; ownerReferences?: { name: string }[] };
        spec: { arguments: { parameters: { name: string; value: string }[] } };
      }[];
    };
    const children = made.items.filter(({ metadata }) => metadata.ownerReferences?.[0]?.name === run.name);
    expect(children.length).toBe(3);
    for (const [index, files] of [tinyLlama(), undefined, tinyLlama({ seed: 2 })].entries()) {
      const name = names[index] ?? '';
      const child = children.find(({ spec }) => spec.arguments.parameters.some(({ value }) => value === name));
      const ended = await until('the child to end', 60, async () => {
        const read = await readArgo(site, child?.metadata.name ?? '');
        return ['Succeeded', 'Failed'].includes(read.phase) ? read : undefined;
      });
      expect(ended.phase).toBe(files ? 'Succeeded' : 'Failed');
      if (files) await expectPublished('Argo import-many', ended.results, { name, files });
      else {
        expect(triesOf(ended, 'register')).toMatchObject([{ exitCode: '3' }]);
        await expectNotPublished(site.bucket, name);
      }
    }
  });
});
