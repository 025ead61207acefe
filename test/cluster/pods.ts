import { leaksIn } from '../fakes/leaks.ts';
import { type KubeObject, kubectl, listObjects } from './kubectl.ts';
import { settings } from './settings.ts';

interface Pod extends KubeObject {
  status?: {
    phase?: string;
    containerStatuses?: { name: string; state: { terminated?: { exitCode: number } } }[];
  };
}

export interface EndedPod {
  name: string;
  labels: Record<string, string>;
  phase: string;
  /** Of the container that runs our program. */
  exitCode: number | undefined;
  log: string;
}

/** Every secret that a test gave to the cluster: it stands in Secrets alone. */
export const givenSecrets = new Set([settings.s3.secretAccessKey]);

const ours = (name: string) => name === 'main' || name === 'import' || name.startsWith('step-');

/** Collects how the pods of one run ended, before an engine takes them away. */
export class PodWatch {
  readonly ended = new Map<string, EndedPod>();
  readonly #namespace: string;
  readonly #selector: string;

  constructor(namespace: string, selector: string) {
    this.#namespace = namespace;
    this.#selector = selector;
  }

  async look(): Promise<Pod[]> {
    const pods = await listObjects<Pod>(this.#namespace, 'pods', this.#selector);
    for (const { metadata, status } of pods) {
      const phase = status?.phase ?? '';
      const container = status?.containerStatuses?.find(({ name }) => ours(name));
      // Tekton keeps a pod beside a run, for the node that its volume is on.
      if (this.ended.has(metadata.name) || container === undefined) continue;
      // An engine ends a run as soon as its containers have ended; the pod's phase follows later.
      if (container.state.terminated === undefined && phase !== 'Succeeded' && phase !== 'Failed') continue;
      const log = await kubectl('-n', this.#namespace, 'logs', metadata.name, '--all-containers').catch(() => '');
      const leaks = leaksIn(log, [...givenSecrets]);
      if (leaks.length > 0) throw new Error(`the log of ${metadata.name} holds secrets: ${leaks.join(', ')}`);
      this.ended.set(metadata.name, {
        name: metadata.name,
        labels: metadata.labels ?? {},
        phase,
        exitCode: container.state.terminated?.exitCode,
        log,
      });
    }
    return pods;
  }

  get pods(): EndedPod[] {
    return [...this.ended.values()];
  }

  get logs(): string {
    return this.pods.map(({ name, log }) => `${name}:\n${log}`).join('\n');
  }
}
