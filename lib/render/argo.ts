import { Document } from 'yaml';
import type { Step } from '../define-step.ts';
import { describeResult } from '../results.ts';
import {
  caPath,
  commandOf,
  deadlineOf,
  generatedNote,
  imageName,
  type Leaf,
  type LeafEnv,
  type LeafParam,
  labelsOf,
  leafOf,
  resourcesOf,
  securityContext,
  temporaryPath,
  workspacePath,
  workspaceUse,
} from './wiring.ts';

const resultsPath = `${temporaryPath}/results`;
const input = (name: string) => `{{inputs.parameters.${name}}}`;

/** Tries again what may pass: lost pods and exit code 5, 137, 143 (design section 5). No maxDuration: it would count from the first start. */
const retryStrategy = {
  limit: '5',
  retryPolicy: 'Always',
  expression: "lastRetry.status == 'Error' || !(asInt(lastRetry.exitCode) in [1, 2, 3, 4, 6, 7])",
  backoff: { duration: '10s', factor: '2', cap: '5m' },
} as const;

/** The WorkflowTemplate `modelferry-steps` as YAML: one template per step. */
export function renderArgo(steps: readonly Step[], version: string): string {
  const document = new Document({
    apiVersion: 'argoproj.io/v1alpha1',
    kind: 'WorkflowTemplate',
    metadata: { name: 'modelferry-steps', labels: labelsOf(version) },
    spec: { templates: steps.map((step) => template(leafOf(step, { credentialsDir: false }), version)) },
  });
  document.commentBefore = ` ${generatedNote}`;
  return document.toString({ lineWidth: 0 });
}

function template(leaf: Leaf, version: string): object {
  const { step } = leaf;
  const use = workspaceUse(step);
  return {
    name: step.name,
    metadata: { labels: labelsOf(version), annotations: { description: step.summary } },
    inputs: {
      parameters: [...leaf.params, ...ownParams(step)].map(({ default: value, ...param }) => ({
        ...param,
        ...(value !== undefined && { value }),
      })),
    },
    outputs: {
      parameters: Object.entries(step.results).map(([name, result]) => ({
        name,
        description: describeResult(result),
        valueFrom: { path: `${resultsPath}/${name}` },
      })),
    },
    retryStrategy,
    activeDeadlineSeconds: input('deadline-seconds'),
    ...(use === 'optional' && { podSpecPatch: claimOrNothing }),
    volumes: [
      ...(use === 'shared' ? [{ name: 'workspace', persistentVolumeClaim: { claimName: input('workspace-claim') } }] : []),
      ...(use === 'optional' ? [{ name: 'workspace', emptyDir: {} }] : []),
      { name: 'tmp', emptyDir: {} },
      { name: 'ca', configMap: { name: input('ca-configmap'), optional: true } },
    ],
    container: {
      image: `${imageName}:${version}`,
      imagePullPolicy: 'IfNotPresent',
      command: commandOf(step),
      workingDir: use === 'shared' ? workspacePath : temporaryPath,
      env: [
        ...(use === 'none' ? [] : [{ name: 'WORKSPACE', value: workspacePath }]),
        { name: 'RESULTS_DIR', value: resultsPath },
        // The same for every try of this run, so that one goes on at once where the last one was lost.
        ...('runId' in step.params.properties ? [{ name: 'RUN_ID', value: '{{workflow.uid}}' }] : []),
        ...leaf.env.map(environment),
      ],
      envFrom: [{ configMapRef: { name: input('env-configmap'), optional: true } }],
      resources: resourcesOf(step),
      securityContext,
      volumeMounts: [
        ...(use === 'none' ? [] : [{ name: 'workspace', mountPath: workspacePath }]),
        { name: 'tmp', mountPath: temporaryPath },
        { name: 'ca', mountPath: caPath, readOnly: true },
      ],
    },
  };
}

function ownParams(step: Step): LeafParam[] {
  const description = 'PersistentVolumeClaim that the steps share';
  const claims: Record<ReturnType<typeof workspaceUse>, LeafParam[]> = {
    shared: [{ name: 'workspace-claim', default: undefined, description: `${description}.` }],
    optional: [{ name: 'workspace-claim', default: '', description: `${description}; empty: none.` }],
    none: [],
  };
  const deadline = { name: 'deadline-seconds', default: String(deadlineOf(step)), description: 'Seconds that one try may take.' };
  return [...claims[workspaceUse(step)], deadline];
}

/** A volume cannot be absent by a parameter: the empty one is replaced by the claim when one is named. (Two closing braces in a row end a tag.) */
const claimOrNothing =
  "{{=inputs.parameters['workspace-claim'] == '' ? '{}' : toJson({volumes: [{name: 'workspace', emptyDir: nil, persistentVolumeClaim: {claimName: inputs.parameters['workspace-claim'] } }] })}}";

function environment({ name, param, secret }: LeafEnv): object {
  if (secret === undefined) return { name, value: input(param ?? '') };
  return { name, valueFrom: { secretKeyRef: { name: input(secret.nameParam), key: input(secret.keyParam), optional: true } } };
}
