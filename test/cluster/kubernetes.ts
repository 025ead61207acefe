import { execFile } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';

/** One object as kubectl gives it. */
export interface Resource {
  kind?: string;
  metadata: { name: string; labels?: Record<string, string> };
  spec?: Record<string, unknown>;
  status?: Record<string, unknown>;
}

/** Runs kubectl on the cluster that KUBECONFIG names; its output, or an error that says what it said. */
export async function kubectl(args: readonly string[], input?: string): Promise<string> {
  return await new Promise((resolve, reject) => {
    const child = execFile('kubectl', args, { maxBuffer: 256 * 1024 ** 2 }, (error, stdout, stderr) => {
      if (error) reject(new Error(`kubectl ${args.join(' ')}: ${stderr || error.message}`));
      else resolve(stdout);
    });
    child.stdin?.end(input ?? '');
  });
}

/** One namespace and what is done in it. */
export class Namespace {
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }

  /** Makes it; `level` is the Pod Security Standard that it enforces. */
  async make(level?: 'restricted'): Promise<this> {
    const labels = level === undefined ? {} : { 'pod-security.kubernetes.io/enforce': level, 'pod-security.kubernetes.io/warn': level };
    await kubectl(['apply', '-f', '-'], JSON.stringify({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: this.name, labels } }));
    return this;
  }

  async delete(): Promise<void> {
    await kubectl(['delete', 'namespace', this.name, '--wait=true', '--timeout=120s', '--ignore-not-found']);
  }

  async apply(manifest: string | object): Promise<void> {
    await kubectl(['-n', this.name, 'apply', '-f', '-'], typeof manifest === 'string' ? manifest : JSON.stringify(manifest));
  }

  /** Makes an object with a generated name and returns its name. */
  async create(manifest: object): Promise<string> {
    const made = await kubectl(['-n', this.name, 'create', '-f', '-', '-o', 'name'], JSON.stringify(manifest));
    return made.trim().split('/').at(-1) ?? '';
  }

  async secret(name: string, stringData: Record<string, string>): Promise<void> {
    await this.apply({ apiVersion: 'v1', kind: 'Secret', metadata: { name }, stringData });
  }

  async get(kind: string, name: string): Promise<Resource> {
    return JSON.parse(await kubectl(['-n', this.name, 'get', kind, name, '-o', 'json'])) as Resource;
  }

  async list(kind: string, selector = ''): Promise<Resource[]> {
    const more = selector === '' ? [] : ['-l', selector];
    return (JSON.parse(await kubectl(['-n', this.name, 'get', kind, ...more, '-o', 'json'])) as { items: Resource[] }).items;
  }

  /** Looks at an object each second until it is as `done` says; the test's own time limit ends it. */
  async until(kind: string, name: string, done: (resource: Resource) => boolean): Promise<Resource> {
    for (;;) {
      const resource = await this.get(kind, name);
      if (done(resource)) return resource;
      await sleep(1000);
    }
  }

  /** All that the containers of matching pods have said, pod by pod. */
  async logs(selector: string): Promise<string> {
    const pods = await this.list('pods', selector);
    const texts = await Promise.all(
      pods.map(
        async ({ metadata: { name } }) =>
          `--- ${name}\n${await kubectl(['-n', this.name, 'logs', name, '--all-containers']).catch(String)}`,
      ),
    );
    return texts.join('\n');
  }
}
