import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { tinyLlama } from '../fakes/model.ts';
import { commonParameters, runArgo, triesOf } from './argo.ts';
import { type KubeObject, kubectl, listObjects, run } from './kubectl.ts';
import { expectPublished } from './read-back.ts';
import { settings } from './settings.ts';
import { openSite, type Site, startHub } from './site.ts';
import { params, runTekton, s3Credentials, volume } from './tekton.ts';

/** A Hub whose CDN falls silent in the middle of the first file, and for no second time: whichever pod meets that is over it after the stall timeout. */
const silent = [{ side: 'cdn', on: '^GET', stallAfter: 1000 }];

/** Takes an engine's controller away; its Deployment makes another one. */
async function restart(selector: string): Promise<void> {
  await kubectl('delete', 'pod', '--all-namespaces', '-l', selector, '--wait=false');
}

/** As the drain of a node does (API-initiated eviction). */
async function evict(namespace: string, name: string): Promise<void> {
  const eviction = { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name, namespace } };
  await run('kubectl', ['create', '--raw', `/api/v1/namespaces/${namespace}/pods/${name}/eviction`, '-f', '-'], JSON.stringify(eviction));
}

describe.skipIf(!settings.mayRestart)('an engine that restarts while a pod is evicted', () => {
  let site: Site;
  beforeAll(async () => {
    site = await openSite();
  });
  afterAll(async () => await site?.close());

  test.concurrent('Argo: the import goes on by itself', async () => {
    const name = site.unique('restart-argo');
    const hub = await startHub(site.namespace, 'silent-argo', silent);
    let evicted = false;
    const ended = await runArgo(site, {
      parameters: { ...commonParameters(site), 'model-id': 'acme/tiny-llama', 'model-name': name, 'hub-url': hub, 'stall-timeout': '30s' },
      meanwhile: async ({ name: workflow, nodes }) => {
        if (evicted || nodes.find(({ displayName }) => displayName === 'download(0)')?.phase !== 'Running') return;
        const pods = await listObjects(site.namespace, 'pods', `workflows.argoproj.io/workflow=${workflow}`);
        const pod = pods.find(({ metadata }) => metadata.name.includes('-download-'));
        if (pod === undefined) return;
        evicted = true;
        await restart('app=workflow-controller');
        await evict(site.namespace, pod.metadata.name);
      },
    });
    expect(ended.phase, ended.watch.logs).toBe('Succeeded');
    expect(triesOf(ended, 'download').length).toBe(2);
    await expectPublished('Argo import-model, evicted while the controller restarted', ended.results, { name, files: tinyLlama() });
  });

  test.concurrent('Tekton: the import goes on by itself', async () => {
    const name = site.unique('restart-tekton');
    const hub = await startHub(site.namespace, 'silent-tekton', silent);
    let evicted = '';
    const pods = () => listObjects<Pod>(site.namespace, 'pods', 'tekton.dev/pipelineTask=download');
    const spec = {
      pipelineRef: { name: 'import-model' },
      taskRunTemplate: { podTemplate: { securityContext: { fsGroup: 65532 } } },
      params: params({
        's3-bucket': site.bucket,
        's3-endpoint-url': settings.s3.url,
        'model-registry-url': settings.registry.url,
        'model-id': 'acme/tiny-llama',
        'model-name': name,
        'hub-url': hub,
        'stall-timeout': '30s',
      }),
      workspaces: [volume('workspace'), s3Credentials],
    };
    const ended = await runTekton(site, spec, 'tekton.dev/v1', async () => {
      const pod = evicted === '' ? (await pods()).find(({ status }) => status?.phase === 'Running') : undefined;
      if (pod === undefined) return;
      evicted = pod.metadata.uid;
      await restart('app.kubernetes.io/component=controller,app.kubernetes.io/part-of=tekton-pipelines');
      await evict(site.namespace, pod.metadata.name);
    });
    expect(ended.succeeded, `${ended.message}\n${ended.watch.logs}`).toBe(true);
    // Whether a retry or the same try has another pod: that depends on when the controller is back.
    expect((await pods()).map(({ metadata }) => metadata.uid)).toEqual([expect.not.stringMatching(`^${evicted}$`)]);
    await expectPublished('Tekton import-model, evicted while the controller restarted', ended.results, { name, files: tinyLlama() });
  });
});

interface Pod extends KubeObject {
  metadata: KubeObject['metadata'] & { uid: string };
  status?: { phase?: string };
}
