import { execFile } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';

export interface KubeObject {
  apiVersion?: string;
  kind: string;
  metadata: { name: string; namespace?: string; labels?: Record<string, string>; creationTimestamp?: string };
}

/** Runs a program to its end with that text on stdin; stdout. Throws with stderr when it fails. */
export function run(command: string, args: readonly string[], input = ''): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(command, args, { maxBuffer: 256 * 1024 * 1024 }, (error, stdout, stderr) => {
      if (error) reject(new Error(`${command} ${args.join(' ')}: ${stderr.trim() || error.message}`));
      else resolve(stdout);
    });
    // A program that ends before it has read its input breaks the pipe; its exit and its words, above, say what happened.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input);
  });
}

export async function kubectl(...args: string[]): Promise<string> {
  return await run('kubectl', args);
}

export async function applyObjects(namespace: string, objects: readonly object[]): Promise<void> {
  await run('kubectl', ['-n', namespace, 'apply', '-f', '-'], JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }));
}

/** Creates one object, with generateName where it has one; its name. */
export async function createObject(namespace: string, object: object): Promise<string> {
  const created = await run('kubectl', ['-n', namespace, 'create', '-o', 'json', '-f', '-'], JSON.stringify(object));
  return (JSON.parse(created) as KubeObject).metadata.name;
}

/** One object; undefined when it is not there. */
export async function getObject<T extends KubeObject>(namespace: string, kind: string, name: string): Promise<T | undefined> {
  const text = await kubectl('-n', namespace, 'get', kind, name, '--ignore-not-found', '-o', 'json');
  return text.trim() === '' ? undefined : (JSON.parse(text) as T);
}

export async function listObjects<T extends KubeObject>(namespace: string, kind: string, selector: string): Promise<T[]> {
  return (JSON.parse(await kubectl('-n', namespace, 'get', kind, '-l', selector, '-o', 'json')) as { items: T[] }).items;
}

/** Asks until there is an answer. Throws with the last state when that takes too long. */
export async function until<T>(
  what: string,
  seconds: number,
  ask: () => Promise<T | undefined>,
  state: () => unknown = () => '',
): Promise<T> {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (Date.now() > end) throw new Error(`gave up waiting for ${what} after ${seconds} s: ${JSON.stringify(state())}`);
    await sleep(1000);
  }
}
