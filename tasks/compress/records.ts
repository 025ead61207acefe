import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type ModelFolder, safeJoin, writeAtomically } from '../../lib/workspace.ts';

/** What is known of the shards that are done, beside the unfinished one, until the manifest says it. */
export class Records<T extends { path: string }> {
  readonly #folder: ModelFolder;
  readonly #planId: string;

  /** @param planId Differs where what another run left is of no use. */
  constructor(folder: ModelFolder, planId: string) {
    this.#folder = folder;
    this.#planId = planId;
  }

  /** Takes away what a run of another plan left. */
  async open(): Promise<void> {
    const path = join(this.#folder.partial, 'plan');
    if ((await readFile(path, 'utf8').catch(() => '')) === this.#planId) return;
    await rm(this.#folder.files, { recursive: true, force: true });
    await rm(this.#folder.partial, { recursive: true, force: true });
    await writeAtomically(path, this.#planId);
  }

  /** Undefined when the shard is still to be made. */
  async read(path: string): Promise<T | undefined> {
    const text = await readFile(this.#pathOf(path), 'utf8').catch(() => undefined);
    return text === undefined ? undefined : (JSON.parse(text) as T);
  }

  async write(record: T): Promise<void> {
    await writeAtomically(this.#pathOf(record.path), JSON.stringify(record));
  }

  #pathOf(path: string): string {
    return safeJoin(this.#folder.partial, `${path}.done`);
  }
}
