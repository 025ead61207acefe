import { createObject, getObject, type KubeObject, until } from './kubectl.ts';
import { PodWatch } from './pods.ts';
import { settings } from './settings.ts';
import type { Site } from './site.ts';

interface Node {
  displayName: string;
  type: string;
  phase: string;
  message?: string;
  progress?: string;
  id: string;
  templateName?: string;
  startedAt?: string;
  finishedAt?: string;
  outputs?: { exitCode?: string; parameters?: { name: string; value: string }[]; artifacts?: { name: string; s3?: { key?: string } }[] };
  templateRef?: { template: string };
}

interface Workflow extends KubeObject {
  status?: { phase?: string; message?: string; nodes?: Record<string, Node>; outputs?: { parameters?: { name: string; value: string }[] } };
}

export interface ArgoRun {
  name: string;
  phase: string;
  results: Record<string, string>;
  nodes: Node[];
  watch: PodWatch;
}

export interface ArgoOptions {
  parameters: Record<string, string>;
  template?: string;
  securityContext?: object;
  /** Called every second or so, while the workflow runs. */
  meanwhile?: (run: Omit<ArgoRun, 'watch'>) => Promise<void>;
}

/** What every import in a site is given. */
export function commonParameters({ bucket }: Site): Record<string, string> {
  return { 's3-bucket': bucket, 's3-endpoint-url': settings.s3.url, 'model-registry-url': settings.registry.url };
}

/** Submits a workflow from a template, as the example does, and waits for its end. */
export async function runArgo(site: Site, options: ArgoOptions): Promise<ArgoRun> {
  return await waitForArgo(site, await startArgo(site, options), options.meanwhile);
}

/** Submits a workflow from a template; its name. */
export async function startArgo(
  { namespace }: Site,
  { parameters, template = 'import-model', securityContext }: Omit<ArgoOptions, 'meanwhile'>,
): Promise<string> {
  return await createObject(namespace, {
    apiVersion: 'argoproj.io/v1alpha1',
    kind: 'Workflow',
    metadata: { generateName: `${template}-` },
    spec: {
      workflowTemplateRef: { name: template },
      arguments: { parameters: Object.entries(parameters).map(([key, value]) => ({ name: key, value })) },
      ...(securityContext && { securityContext }),
    },
  });
}

/** Waits for the end of a workflow that runs already. */
export async function waitForArgo(site: Site, name: string, meanwhile?: ArgoOptions['meanwhile']): Promise<ArgoRun> {
  const watch = new PodWatch(site.namespace, `workflows.argoproj.io/workflow=${name}`);
  return await until(
    `workflow ${name}`,
    840,
    async () => {
      await watch.look();
      const run = await readArgo(site, name);
      await meanwhile?.(run);
      if (!['Succeeded', 'Failed', 'Error'].includes(run.phase)) return undefined;
      await watch.look();
      return { ...run, watch };
    },
    () => watch.pods.map((pod) => [pod.name, pod.exitCode]),
  );
}

export async function readArgo(site: Site, name: string): Promise<Omit<ArgoRun, 'watch'>> {
  const status = (await getObject<Workflow>(site.namespace, 'workflow', name))?.status;
  return {
    name,
    phase: status?.phase ?? '',
    results: Object.fromEntries((status?.outputs?.parameters ?? []).map((each) => [each.name, each.value])),
    nodes: Object.values(status?.nodes ?? {}),
  };
}

/** The tries of one step of a workflow, in order: exit codes as Argo saw them. */
export function triesOf(
  { nodes }: Pick<ArgoRun, 'nodes'>,
  step: string,
): { phase: string; exitCode: string | undefined; message: string }[] {
  return nodes
    .filter(({ type, displayName }) => type === 'Pod' && new RegExp(`^${step}(\\(\\d+:\\d+/\\d+\\))?\\(\\d+\\)$`).test(displayName))
    .sort((a, b) => a.displayName.localeCompare(b.displayName))
    .map(({ phase, outputs, message = '' }) => ({ phase, exitCode: outputs?.exitCode, message }));
}
