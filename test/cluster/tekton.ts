import { createObject, getObject, type KubeObject, listObjects, until } from './kubectl.ts';
import { PodWatch } from './pods.ts';
import type { Site } from './site.ts';

interface Condition {
  type: string;
  status: string;
  reason: string;
  message: string;
}

interface PipelineRun extends KubeObject {
  status?: {
    completionTime?: string;
    conditions?: Condition[];
    results?: { name: string; value: string }[];
    pipelineResults?: { name: string; value: string }[];
  };
}

export interface TaskRun extends KubeObject {
  status?: {
    conditions?: Condition[];
    retriesStatus?: unknown[];
    results?: { name: string; value: string }[];
    steps?: { terminated?: { exitCode: number } }[];
  };
}

export interface TektonRun {
  name: string;
  succeeded: boolean;
  reason: string;
  message: string;
  results: Record<string, string>;
  /** By the name of the pipeline's task; those of a matrix have their number behind it. */
  tasks: Map<string, TaskRun>;
  watch: PodWatch;
}

/** Params as Tekton wants them. */
export function params(values: Record<string, string | string[]>): { name: string; value: string | string[] }[] {
  return Object.entries(values).map(([name, value]) => ({ name, value }));
}

/** A workspace on a volume of its own. */
export function volume(name: string): object {
  const spec = { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } };
  return { name, volumeClaimTemplate: { spec } };
}

export const s3Credentials = { name: 's3-credentials', secret: { secretName: 's3-credentials' } };

/** Creates a PipelineRun and waits for its end. */
export async function runTekton(
  site: Site,
  spec: object,
  apiVersion = 'tekton.dev/v1',
  meanwhile?: (watch: PodWatch) => Promise<void>,
): Promise<TektonRun> {
  return await waitForTekton(site, await startTekton(site, spec, apiVersion), meanwhile);
}

/** Creates a PipelineRun; its name. */
export async function startTekton({ namespace }: Site, spec: object, apiVersion = 'tekton.dev/v1'): Promise<string> {
  return await createObject(namespace, { apiVersion, kind: 'PipelineRun', metadata: { generateName: 'import-' }, spec });
}

/** Waits for the end of a PipelineRun that runs already. */
export async function waitForTekton(site: Site, name: string, meanwhile?: (watch: PodWatch) => Promise<void>): Promise<TektonRun> {
  const watch = new PodWatch(site.namespace, `tekton.dev/pipelineRun=${name}`);
  const ended = await until(
    `PipelineRun ${name}`,
    840,
    async () => {
      await watch.look();
      await meanwhile?.(watch);
      const run = await getObject<PipelineRun>(site.namespace, 'pipelineruns.v1.tekton.dev', name);
      return run?.status?.completionTime ? run.status : undefined;
    },
    () => watch.pods.map((pod) => [pod.name, pod.exitCode]),
  );
  await watch.look();
  const condition = ended.conditions?.find(({ type }) => type === 'Succeeded');
  const runs = await listObjects<TaskRun>(site.namespace, 'taskruns.v1.tekton.dev', `tekton.dev/pipelineRun=${name}`);
  return {
    name,
    succeeded: condition?.status === 'True',
    reason: condition?.reason ?? '',
    message: condition?.message ?? '',
    results: Object.fromEntries((ended.results ?? []).map((each) => [each.name, each.value])),
    tasks: new Map(runs.map((run) => [run.metadata.name.slice(name.length + 1), run])),
    watch,
  };
}

export function resultsOf(run: TaskRun | undefined): Record<string, string> {
  return Object.fromEntries((run?.status?.results ?? []).map(({ name, value }) => [name, value]));
}
