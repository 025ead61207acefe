import type { Namespace, Resource } from './kubernetes.ts';

type Params = Record<string, string>;

interface Node {
  displayName: string;
  type: string;
  phase: string;
  outputs?: { exitCode?: string };
}

export interface ArgoRun {
  name: string;
  phase: string;
  message: string;
  outputs: Params;
  /** Pods by the name of their task or template. */
  pods: { name: string; phase: string; exitCode: string }[];
  /** Selects the run's pods. */
  selector: string;
}

/** Starts a workflow of a template and waits for its end, clean-up included. */
export async function runWorkflow(namespace: Namespace, template: string, params: Params, spec: object = {}): Promise<ArgoRun> {
  return await endOfWorkflow(namespace, await startWorkflow(namespace, template, params, spec));
}

export async function startWorkflow(namespace: Namespace, template: string, params: Params, spec: object = {}): Promise<string> {
  return await namespace.create({
    apiVersion: 'argoproj.io/v1alpha1',
    kind: 'Workflow',
    metadata: { generateName: `${template}-` },
    spec: {
      workflowTemplateRef: { name: template },
      arguments: { parameters: given(params) },
      podGC: { strategy: 'OnWorkflowCompletion', deleteDelayDuration: '600s' },
      ...spec,
    },
  });
}

export async function endOfWorkflow(namespace: Namespace, name: string): Promise<ArgoRun> {
  const ended = await namespace.until('workflow', name, ({ status }) => ['Succeeded', 'Failed', 'Error'].includes(String(status?.phase)));
  const status = ended.status as {
    phase: string;
    message?: string;
    nodes?: Record<string, Node>;
    outputs?: { parameters?: { name: string; value: string }[] };
  };
  const pods = Object.values(status.nodes ?? {}).filter((node) => node.type === 'Pod');
  return {
    name,
    phase: status.phase,
    message: status.message ?? '',
    outputs: Object.fromEntries((status.outputs?.parameters ?? []).map((each) => [each.name, each.value])),
    pods: pods.map(({ displayName, phase, outputs }) => ({ name: displayName, phase, exitCode: outputs?.exitCode ?? '' })),
    selector: `workflows.argoproj.io/workflow=${name}`,
  };
}

export interface TektonRun {
  name: string;
  succeeded: boolean;
  message: string;
  results: Params;
  selector: string;
}

export interface PipelineRunOptions {
  pipeline: string;
  params: Params;
  workspaces: object[];
  apiVersion?: 'tekton.dev/v1' | 'tekton.dev/v1beta1';
  spec?: object;
}

/** Starts a PipelineRun and waits for its end. */
export async function runPipeline(
  namespace: Namespace,
  { pipeline, params, workspaces, apiVersion = 'tekton.dev/v1', spec = {} }: PipelineRunOptions,
): Promise<TektonRun> {
  const name = await namespace.create({
    apiVersion,
    kind: 'PipelineRun',
    metadata: { generateName: `${pipeline}-` },
    spec: { pipelineRef: { name: pipeline }, params: given(params), workspaces, ...spec },
  });
  return await endOfPipeline(namespace, name);
}

export async function endOfPipeline(namespace: Namespace, name: string): Promise<TektonRun> {
  const condition = ({ status }: Resource) => (status?.conditions as { status: string; message?: string }[] | undefined)?.[0];
  const ended = await namespace.until('pipelinerun.tekton.dev', name, (run) => ['True', 'False'].includes(condition(run)?.status ?? ''));
  const results = (ended.status?.results ?? []) as { name: string; value: string }[];
  return {
    name,
    succeeded: condition(ended)?.status === 'True',
    message: condition(ended)?.message ?? '',
    results: Object.fromEntries(results.map((each) => [each.name, each.value])),
    selector: `tekton.dev/pipelineRun=${name}`,
  };
}

function given(params: Params): { name: string; value: string }[] {
  return Object.entries(params).map(([name, value]) => ({ name, value }));
}

/** A claim as users make it, for pipelines that share one. */
export function claim(name: string): object {
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { name },
    spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
  };
}

export const volumeClaimTemplate = { spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } } };
