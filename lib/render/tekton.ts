import { Document } from 'yaml';
import type { Step } from '../define-step.ts';
import { describeResult } from '../results.ts';
import {
  caPath,
  commandOf,
  generatedNote,
  imageName,
  type LeafEnv,
  labelsOf,
  leafOf,
  resourcesOf,
  securityContext,
  temporaryPath,
  workspaceUse,
} from './wiring.ts';

/** The one folder below /tekton that Tekton's API policy keeps stable. */
const resultsPath = '/tekton/results';
const input = (name: string) => `$(params.${name})`;

/** The Tekton Tasks as YAML: one per step, named like it. */
export function renderTekton(steps: readonly Step[], version: string): string {
  const tasks = steps.map((step) => new Document(task(step, version)));
  if (tasks[0]) tasks[0].commentBefore = ` ${generatedNote}`;
  return tasks.map((document) => document.toString({ lineWidth: 0 })).join('---\n');
}

function task(step: Step, version: string): object {
  const leaf = leafOf(step, { credentialsDir: true });
  const use = workspaceUse(step);
  const credentials = 's3CredentialsDir' in step.params.properties;
  return {
    apiVersion: 'tekton.dev/v1',
    kind: 'Task',
    metadata: {
      name: step.name,
      labels: labelsOf(version),
      annotations: { 'tekton.dev/pipelines.minVersion': '0.56.0', 'tekton.dev/displayName': `modelferry ${step.name}` },
    },
    spec: {
      description: step.summary,
      params: leaf.params.map(({ name, description, default: value }) => ({
        name,
        type: 'string',
        description,
        ...(value !== undefined && { default: value }),
      })),
      workspaces: [
        ...(use === 'none'
          ? []
          : [{ name: 'workspace', description: 'Folder that the steps share.', ...(use === 'optional' && { optional: true }) }]),
        ...(credentials
          ? [
              {
                name: 's3-credentials',
                description: 'A Secret: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and more.',
                optional: true,
                readOnly: true,
              },
            ]
          : []),
      ],
      results: Object.entries(step.results).map(([name, result]) => ({
        name,
        type: typeof result === 'string' ? 'string' : 'array',
        description: describeResult(result),
      })),
      volumes: [
        { name: 'tmp', emptyDir: {} },
        { name: 'ca', configMap: { name: input('ca-configmap'), optional: true } },
      ],
      steps: [
        {
          name: step.name,
          image: `${imageName}:${version}`,
          imagePullPolicy: 'IfNotPresent',
          command: commandOf(step),
          workingDir: use === 'shared' ? '$(workspaces.workspace.path)' : temporaryPath,
          env: [
            ...(use === 'none' ? [] : [{ name: 'WORKSPACE', value: '$(workspaces.workspace.path)' }]),
            { name: 'RESULTS_DIR', value: resultsPath },
            // The same for every try of this run, so that one goes on at once where the last one was lost.
            ...('runId' in step.params.properties ? [{ name: 'RUN_ID', value: '$(context.taskRun.uid)' }] : []),
            ...(credentials ? [{ name: 'S3_CREDENTIALS_DIR', value: '$(workspaces.s3-credentials.path)' }] : []),
            ...leaf.env.map(environment),
          ],
          envFrom: [{ configMapRef: { name: input('env-configmap'), optional: true } }],
          computeResources: resourcesOf(step),
          securityContext,
          volumeMounts: [
            { name: 'tmp', mountPath: temporaryPath },
            { name: 'ca', mountPath: caPath, readOnly: true },
          ],
        },
      ],
    },
  };
}

function environment({ name, param, secret }: LeafEnv): object {
  if (secret === undefined) return { name, value: input(param ?? '') };
  return { name, valueFrom: { secretKeyRef: { name: input(secret.nameParam), key: input(secret.keyParam), optional: true } } };
}
