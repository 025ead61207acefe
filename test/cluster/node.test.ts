import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { tinyLlama } from '../fakes/model.ts';
import { commonParameters, readArgo, startArgo, triesOf, waitForArgo } from './argo.ts';
import { type KubeObject, kubectl, listObjects, run, until } from './kubectl.ts';
import { expectPublished } from './read-back.ts';
import { settings } from './settings.ts';
import { openSite, type Site, startHub } from './site.ts';
import { params, s3Credentials, startTekton, volume, waitForTekton } from './tekton.ts';

interface Pod extends KubeObject {
  status?: { phase?: string };
}

describe.skipIf(!settings.restartNodeCommand)('a node that stops and starts again, with the engines, the S3 and the registry on it', () => {
  let site: Site;
  beforeAll(async () => {
    site = await openSite();
  });
  afterAll(async () => await site?.close());

  test('in the middle of imports: they end in the right result by themselves', { timeout: 1_800_000 }, async () => {
    const { namespace } = site;
    // Each CDN falls silent in the first files, again when it is started again: so long are the pods under way.
    const silent = [{ side: 'cdn', on: '^GET', stallAfter: 1000, times: 2 }];
    const hubs = ['silent-argo', 'silent-sync', 'silent-tekton'];
    const [forArgo = '', forSync = '', forTekton = ''] = await Promise.all(hubs.map((hub) => startHub(namespace, hub, silent)));
    const names = { argo: site.unique('node-argo'), sync: site.unique('node-sync'), tekton: site.unique('node-tekton') };
    const given = { ...commonParameters(site), 'model-id': 'acme/tiny-llama', 'stall-timeout': '90s' };

    const argo = await startArgo(site, { parameters: { ...given, 'hub-url': forArgo, 'model-name': names.argo } });
    const sync = await startArgo(site, {
      template: 'sync-model',
      parameters: { ...given, 'hub-url': forSync, 'model-name': names.sync, shards: '2' },
    });
    const tekton = await startTekton(site, {
      pipelineRef: { name: 'import-model' },
      taskRunTemplate: { podTemplate: { securityContext: { fsGroup: 65532 } } },
      // Where the node has forgotten its containers, Tekton waits for the pod until the try's time is over.
      taskRunSpecs: [{ pipelineTaskName: 'download', timeout: '4m' }],
      params: params({ ...given, 'hub-url': forTekton, 'model-name': names.tekton }),
      workspaces: [volume('workspace'), s3Credentials],
    });

    const isRunning = async (workflow: string, step: RegExp) =>
      (await readArgo(site, workflow)).nodes.some(
        ({ displayName, type, phase }) => type === 'Pod' && step.test(displayName) && phase === 'Running',
      );
    await until('all three to be under way', 600, async () => {
      const pods = await listObjects<Pod>(namespace, 'pods', `tekton.dev/pipelineRun=${tekton},tekton.dev/pipelineTask=download`);
      const underWay = pods.some(({ status }) => status?.phase === 'Running');
      return (underWay && (await isRunning(argo, /^download/)) && (await isRunning(sync, /^shard/))) || undefined;
    });
    await run('bash', ['-c', settings.restartNodeCommand ?? '']);
    const pods = ['hub', ...hubs].map((hub) => `pod/${hub}`);
    await kubectl('-n', namespace, 'wait', ...pods, '--for=condition=Ready', '--timeout=300s');

    const [one, other, third] = await Promise.all([waitForArgo(site, argo), waitForArgo(site, sync), waitForTekton(site, tekton)]);
    expect([one.phase, other.phase], one.watch.logs + other.watch.logs).toEqual(['Succeeded', 'Succeeded']);
    expect(third.succeeded, `${third.message}\n${third.watch.logs}`).toBe(true);
    expect(triesOf(one, 'download').length).toBeGreaterThan(1);
    const files = tinyLlama();
    await expectPublished('Argo import-model, its node restarted under the download', one.results, { name: names.argo, files });
    await expectPublished('Argo sync-model, its node restarted under the shards', other.results, { name: names.sync, files });
    await expectPublished('Tekton import-model, its node restarted under the download', third.results, { name: names.tekton, files });
  });
});
