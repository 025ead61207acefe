import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { tinyLlama } from '../fakes/model.ts';
import { commonParameters, readArgo, startArgo, triesOf, waitForArgo } from './argo.ts';
import { applyObjects, type KubeObject, kubectl, listObjects, run, until } from './kubectl.ts';
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
    // The CDN falls silent in the first file, again when it is started again: so long are they under way.
    const hub = await startHub(namespace, 'silent', [{ side: 'cdn', on: '^GET', stallAfter: 1000, times: 2 }]);
    const slow = { HF_ENDPOINT: 'http://hub:8080', BANDWIDTH_LIMIT: '100KB' };
    await applyObjects(namespace, [{ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'slow-env' }, data: slow }]);
    const names = { downloading: site.unique('node-argo'), uploading: site.unique('node-argo-up'), tekton: site.unique('node-tekton') };
    const given = { ...commonParameters(site), 'model-id': 'acme/tiny-llama' };
    const silent = { 'hub-url': hub, 'stall-timeout': '3m' };

    const downloading = await startArgo(site, { parameters: { ...given, ...silent, 'model-name': names.downloading } });
    const uploading = await startArgo(site, { parameters: { ...given, 'model-name': names.uploading, 'env-configmap': 'slow-env' } });
    const spec = {
      pipelineRef: { name: 'import-model' },
      taskRunTemplate: { podTemplate: { securityContext: { fsGroup: 65532 } } },
      params: params({ ...given, ...silent, 'model-name': names.tekton }),
      workspaces: [volume('workspace'), s3Credentials],
    };
    const tekton = await startTekton(site, spec);

    const isRunning = async (workflow: string, step: string) =>
      (await readArgo(site, workflow)).nodes.some(({ displayName, phase }) => displayName === `${step}(0)` && phase === 'Running');
    await until('all three to be under way', 600, async () => {
      const pods = await listObjects<Pod>(namespace, 'pods', `tekton.dev/pipelineRun=${tekton},tekton.dev/pipelineTask=download`);
      const underWay = pods.some(({ status }) => status?.phase === 'Running');
      return (underWay && (await isRunning(downloading, 'download')) && (await isRunning(uploading, 'upload'))) || undefined;
    });
    await run('bash', ['-c', settings.restartNodeCommand ?? '']);
    await kubectl('-n', namespace, 'wait', 'pod/hub', 'pod/silent', '--for=condition=Ready', '--timeout=300s');

    const [one, other, third] = await Promise.all([
      waitForArgo(site, downloading),
      waitForArgo(site, uploading),
      waitForTekton(site, tekton),
    ]);
    expect([one.phase, other.phase], one.watch.logs + other.watch.logs).toEqual(['Succeeded', 'Succeeded']);
    expect(third.succeeded, `${third.message}\n${third.watch.logs}`).toBe(true);
    expect(triesOf(one, 'download').length).toBeGreaterThan(1);
    expect(triesOf(other, 'upload').length).toBeGreaterThan(1);
    const files = tinyLlama();
    await expectPublished('Argo import-model, its node restarted under the download', one.results, { name: names.downloading, files });
    await expectPublished('Argo import-model, its node restarted under the upload', other.results, { name: names.uploading, files });
    await expectPublished('Tekton import-model, its node restarted under the download', third.results, { name: names.tekton, files });
  });
});
