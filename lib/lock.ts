import { type FileHandle, link, open, rm, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { kindOf, messageOf, StepError } from './errors.ts';
import { makeFolder, removeEmptyFolders } from './folders.ts';
import { ownHolder } from './holder.ts';
import type { Log } from './log.ts';
import { holderIn, isStale, look, type SeenLock, takeAway } from './seen-lock.ts';
import { sweepTemporaries, temporaryName } from './temporary.ts';
import { showDuration } from './units.ts';

export interface LockOptions {
  log: Log;
  signal: AbortSignal;
  /** How long a live holder is waited for (ms). */
  waitTimeout?: number | undefined;
  pollMs?: number;
  /** How often a held lock is renewed, and how old one may be before its holder counts as gone (ms). */
  renewMs?: number;
  staleMs?: number;
  /** A folder above the lock's: those between them that are empty go when the work fails. */
  keep?: string;
}

const hourMs = 3_600_000;
/** How often a folder may vanish from under a lock that is being made. */
const maxTries = 20;

/**
 * Runs `work` while no other run does so under the same lock file, in this process, on this machine or on another one that mounts the
 * volume. `work` gets a signal that also ends it when the lock is lost. Throws `transient` naming the holder when it stays too long.
 */
export async function withLock<T>(path: string, options: LockOptions, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  try {
    return await locked(path, options, work);
  } catch (error) {
    if (options.keep !== undefined) await removeEmptyFolders(dirname(path), options.keep);
    throw error;
  }
}

async function locked<T>(path: string, options: LockOptions, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const lost = new AbortController();
  const held = await acquire(path, options);
  await sweepTemporaries(dirname(path));
  const renewing = renew(path, held, options, (error) => lost.abort(error));
  try {
    return await work(AbortSignal.any([options.signal, lost.signal]));
  } finally {
    await renewing.stop();
    await held.file.close();
    await release(path, held);
  }
}

interface Held {
  file: FileHandle;
  text: string;
}

/** Waits for a live holder, and takes away a lock whose holder is gone. */
async function acquire(path: string, { log, signal, waitTimeout = hourMs, pollMs = 500, staleMs = 30_000 }: LockOptions): Promise<Held> {
  const giveUpAt = Date.now() + waitTimeout;
  for (let told = false; ; ) {
    const found = await makeOrSee(path, signal);
    if ('file' in found) return found;
    if (await isStale(path, found, staleMs)) {
      if (await takeAway(path, found)) log.info({ holder: found.text.trim() }, 'a lock of a run that is gone was taken away');
      continue;
    }
    if (Date.now() >= giveUpAt) {
      throw new StepError('transient', `failed to lock ${dirname(path)}: ${nameOf(found)} works on it since ${showDuration(waitTimeout)}`, {
        hint: 'wait for that run, or end it',
      });
    }
    if (!told) log.info({ path, holder: found.text.trim() }, 'waiting for another run');
    told = true;
    await sleep(Math.max(0, Math.min(pollMs, giveUpAt - Date.now())), undefined, { signal }).catch(() => signal.throwIfAborted());
  }
}

/** Makes the lock, or tells what is in the one that is there. */
async function makeOrSee(path: string, signal: AbortSignal): Promise<Held | SeenLock> {
  const text = `${JSON.stringify(ownHolder())}\n`;
  for (let vanished = 0; ; ) {
    signal.throwIfAborted();
    try {
      await makeFolder(dirname(path));
      const seen = await look(path);
      if (seen) return seen;
      const file = await create(path, text);
      if (file) return { file, text };
    } catch (error) {
      // A run that failed takes the empty folder away.
      vanished += 1;
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || vanished > maxTries) fail(path, error);
    }
  }
}

/** Undefined when there is one already. It comes with its text: that of a run that is killed right then can be told from a living one's. */
async function create(path: string, text: string): Promise<FileHandle | undefined> {
  const temporary = `${path}.${temporaryName()}`;
  const file = await write(temporary, text);
  try {
    await link(temporary, path);
    return file;
  } catch (error) {
    // A link whose answer was lost is there (open(2), on locks over NFS).
    if ((await file.stat()).nlink > 1) return file;
    await file.close();
    return (error as NodeJS.ErrnoException).code === 'EEXIST' ? undefined : await createInPlace(path, text);
  } finally {
    await rm(temporary, { force: true });
  }
}

/** The same where there are no links. Whoever reads it before its text is there judges it by its age. */
async function createInPlace(path: string, text: string): Promise<FileHandle | undefined> {
  return await write(path, text).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'EEXIST') return undefined;
    throw error;
  });
}

/** Makes a file that is not there yet. */
async function write(path: string, text: string): Promise<FileHandle> {
  const file = await open(path, 'wx');
  try {
    await file.write(text, 0);
    await file.sync();
    return file;
  } catch (error) {
    await file.close();
    await rm(path, { force: true });
    throw error;
  }
}

function fail(path: string, error: unknown): never {
  throw new StepError(kindOf(error), `failed to lock ${dirname(path)}: ${messageOf(error)}`, {
    hint: 'the folder must be writable for the user that this runs as',
    cause: error,
  });
}

/**
 * Renews by writing, not by utimes: the time then comes from the volume's clock, as that of its readers does.
 * Says that the lock is lost when another file stands in its place, or when it could not be renewed until it was stale.
 */
function renew(
  path: string,
  { file, text }: Held,
  options: LockOptions,
  onLost: (error: StepError) => void,
): { stop: () => Promise<void> } {
  const { log, renewMs = 5000, staleMs = 30_000 } = options;
  let renewedAt = Date.now();
  let running: Promise<void> = Promise.resolve();
  const renewOnce = async () => {
    try {
      const [own, there] = await Promise.all([file.stat(), look(path)]);
      if (there?.inode !== own.ino) return onLost(lostError(path, 'another run took it over'));
      await file.write(text, 0);
      await file.sync();
      renewedAt = Date.now();
    } catch (error) {
      log.warn({ path, error: messageOf(error) }, 'lock not renewed');
      if (Date.now() - renewedAt > staleMs) onLost(lostError(path, messageOf(error)));
    }
  };
  const timer = setInterval(() => {
    running = running.then(renewOnce);
  }, renewMs);
  return {
    async stop() {
      clearInterval(timer);
      await running;
    },
  };
}

async function release(path: string, { text }: Held): Promise<void> {
  const there = await look(path).catch(() => undefined);
  if (there?.text === text) await unlink(path).catch(() => {});
}

function lostError(path: string, why: string): StepError {
  return new StepError('transient', `failed to keep the lock of ${dirname(path)}: ${why}`, { hint: 'run it again' });
}

function nameOf({ text }: SeenLock): string {
  const holder = holderIn(text);
  return holder ? `process ${holder.pid} on ${holder.host}` : 'an unknown run';
}
