import { createHash } from 'node:crypto';
import type { Stats } from 'node:fs';
import { link, mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ownHolder } from '../holder.ts';
import { isStale, look, takeAway } from '../seen-lock.ts';
import { type Condition, type ObjectInfo, PreconditionFailed } from '../store.ts';
import { sweepTemporaries } from '../temporary.ts';
import { safeJoin } from '../workspace.ts';
import { ignoreMissing, readJson, renameInto, temporaryIn, tidy, writeJson } from './files.ts';

interface SideRecord {
  etag: string;
  metadata: Record<string, string>;
  /** Of the object that this one takes the place of: until the rename it is still the one that is there. */
  before?: SideRecord | undefined;
}

/** A change under a lock is a few renames: a lock this old (ms) belongs to a dead process. */
const lockStaleMs = 10_000;
const lockPollMs = 10;

/** Where the objects of a folder store lie, and how one comes to its place. */
export class FolderObjects {
  readonly dir: string;
  /** Records of the folder store itself, of no interest to anyone else. */
  readonly own: string;

  constructor(dir: string, controlPrefix: string) {
    this.dir = resolve(dir);
    this.own = join(this.dir, ...controlPrefix.split('/'), 'folder-store');
  }

  path(key: string): string {
    return safeJoin(this.dir, key);
  }

  sidePath(key: string): string {
    return safeJoin(join(this.own, 'objects'), `${key}.json`);
  }

  async temporary(): Promise<string> {
    return await temporaryIn(join(this.own, 'tmp'));
  }

  async writeRecord(path: string, value: unknown): Promise<void> {
    await writeJson(await this.temporary(), path, value);
  }

  async head(key: string): Promise<ObjectInfo | undefined> {
    const info = await stat(this.path(key)).catch(ignoreMissing);
    if (info === undefined || !info.isFile()) return undefined;
    const etag = etagOf(info);
    const side = await this.#side(key, etag);
    return { key, size: info.size, etag, lastModified: info.mtime, metadata: side?.metadata ?? {} };
  }

  /**
   * Puts a finished file where its key says, if the condition holds. Its record is there before it is: whenever a run is killed, the
   * object that is there has its metadata.
   */
  async place(temporary: string, key: string, metadata: Record<string, string>, condition?: Condition): Promise<ObjectInfo> {
    try {
      return await this.locked(key, async () => {
        await this.check(key, condition);
        const there = await this.head(key);
        const before = there && { etag: there.etag, metadata: there.metadata ?? {} };
        const etag = etagOf(await stat(temporary));
        await this.writeRecord(this.sidePath(key), { etag, metadata, before } satisfies SideRecord);
        await renameInto(temporary, this.path(key));
        return { ...((await this.head(key)) as ObjectInfo), metadata };
      });
    } finally {
      await rm(temporary, { force: true });
    }
  }

  async check(key: string, condition: Condition | undefined): Promise<void> {
    if (condition === undefined) return;
    const found = await this.head(key);
    const holds = 'absent' in condition ? found === undefined : found?.etag === condition.etag;
    if (!holds) throw new PreconditionFailed(`${key} is not as expected`);
  }

  /** One writer at a time per key (or part of an upload): a link can be made only once. That of a process that is gone is taken away. */
  async locked<T>(key: string, work: () => Promise<T>): Promise<T> {
    const temporary = await this.temporary();
    const lock = join(this.own, 'locks', lockName(key));
    await writeFile(temporary, JSON.stringify(ownHolder()));
    try {
      for (;;) {
        await mkdir(dirname(lock), { recursive: true });
        if (await linkFree(temporary, lock)) break;
        const holder = await look(lock);
        if (holder && (await isStale(lock, holder, lockStaleMs))) await takeAway(lock, holder);
        else await sleep(lockPollMs);
      }
    } finally {
      await rm(temporary, { force: true });
    }
    try {
      return await work();
    } finally {
      await rm(lock, { force: true });
    }
  }

  /** Waits until nobody holds one of these locks any more who does now. */
  async unlocked(keys: readonly string[]): Promise<void> {
    const held = new Set(await readdir(join(this.own, 'locks')).catch(ignoreMissing));
    for (const key of keys) if (held.has(lockName(key))) await this.locked(key, async () => {});
  }

  /** Takes away the temporary files and locks that killed runs left: a lock is otherwise looked at only by who wants the same key. */
  async sweep(): Promise<void> {
    await sweepTemporaries(join(this.own, 'tmp'));
    const locks = join(this.own, 'locks');
    for (const name of (await readdir(locks).catch(ignoreMissing)) ?? []) {
      const holder = await look(join(locks, name));
      if (holder && (await isStale(join(locks, name), holder, lockStaleMs))) await takeAway(join(locks, name), holder);
    }
    await sweepTemporaries(locks);
  }

  /** Takes the record of a key away whose object is gone: a delete that was killed in the middle. */
  async sweepRecord(key: string): Promise<void> {
    if ((await this.head(key)) || (await stat(this.sidePath(key)).catch(ignoreMissing)) === undefined) return;
    await this.locked(key, async () => {
      if (!(await this.head(key))) await rm(this.sidePath(key), { force: true });
    });
    await tidy(dirname(this.sidePath(key)), this.dir);
  }

  /** A file that was put there by hand, or changed since, has no record. */
  async #side(key: string, etag: string): Promise<SideRecord | undefined> {
    const side = await readJson<SideRecord>(this.sidePath(key));
    return [side, side?.before].find((record) => record?.etag === etag);
  }
}

function lockName(key: string): string {
  return createHash('sha256').update(key).digest('hex');
}

/** From size and time, which a rename keeps. */
function etagOf({ size, mtimeMs }: Stats): string {
  return `${size.toString(16)}-${Math.round(mtimeMs * 1000).toString(16)}`;
}

/** True when the link was made: nobody else holds that name. */
async function linkFree(existing: string, name: string): Promise<boolean> {
  try {
    await link(existing, name);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}
