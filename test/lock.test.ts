import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { LockHolder } from '../lib/holder.ts';
import { withLock } from '../lib/lock.ts';
import { createLog, Redactor } from '../lib/log.ts';
import { look, takeAway } from '../lib/seen-lock.ts';

let dir: string;
let path: string;
const log = createLog({ level: 'error', format: 'json', redactor: new Redactor(), write: () => {} });
const options = { log, signal: new AbortController().signal, pollMs: 2, waitTimeout: 5000 };

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'lock-'));
  path = join(dir, 'model', 'lock');
});
afterEach(() => rm(dir, { recursive: true, force: true }));

/** The text that this process writes, as another holder would. */
async function ownText(changes: Partial<LockHolder> = {}): Promise<string> {
  const text = await withLock(path, options, () => readFile(path, 'utf8'));
  return JSON.stringify({ ...(JSON.parse(text) as LockHolder), id: 'other', ...changes });
}

async function age(file: string, seconds: number): Promise<void> {
  const at = Date.now() / 1000 - seconds;
  await utimes(file, at, at);
}

describe('withLock', () => {
  test('one after the other, and nothing is left', async () => {
    const events: string[] = [];
    const first = Promise.withResolvers<void>();
    const started = Promise.withResolvers<void>();
    const one = withLock(path, options, async () => {
      started.resolve();
      await first.promise;
      events.push('one ends');
    });
    await started.promise;
    const two = withLock(path, options, async () => {
      events.push('two starts');
    });
    expect(await readdir(join(dir, 'model'))).toContain('lock');
    first.resolve();
    await Promise.all([one, two]);
    expect(events).toEqual(['one ends', 'two starts']);
    expect(await readdir(join(dir, 'model'))).toEqual([]);
  });

  test('twenty at once never overlap', async () => {
    let inside = 0;
    let most = 0;
    await Promise.all(
      Array.from({ length: 20 }, () =>
        withLock(path, options, async () => {
          inside += 1;
          most = Math.max(most, inside);
          await new Promise(setImmediate);
          inside -= 1;
        }),
      ),
    );
    expect(most).toBe(1);
  });

  test('is released when the work fails', async () => {
    await expect(withLock(path, options, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(await readdir(join(dir, 'model'))).toEqual([]);
  });

  test('of many at once that fail none is disturbed, and no folder is left', async () => {
    const deep = join(dir, 'org--repo', 'commit', 'lock');
    const work = Array.from({ length: 20 }, () =>
      withLock(deep, { ...options, keep: dir }, async () => {
        await new Promise(setImmediate);
        throw new Error('no');
      }),
    );
    const outcomes = (await Promise.allSettled(work)) as PromiseRejectedResult[];
    expect(new Set(outcomes.map(({ reason }) => (reason as Error).message))).toEqual(new Set(['no']));
    expect(await readdir(dir)).toEqual([]);
  });

  test('what lies in its folder stays, and the folders above it', async () => {
    const failing = withLock(path, { ...options, keep: dir }, async () => {
      await writeFile(join(dir, 'model', 'begun'), '');
      throw new Error('no');
    });
    await expect(failing).rejects.toThrow('no');
    expect(await readdir(dir, { recursive: true })).toEqual(['model', 'model/begun']);
  });

  test('a live holder is waited for so long, then named', async () => {
    await withLock(path, options, async () => {
      const other = withLock(path, { ...options, waitTimeout: 0 }, async () => {});
      await expect(other).rejects.toMatchObject({
        kind: 'transient',
        message: expect.stringContaining(`process ${process.pid} on ${hostname()}`),
      });
    });
  });

  test('waiting ends with the signal', async () => {
    const stop = new AbortController();
    await withLock(path, options, async () => {
      const other = withLock(path, { ...options, signal: stop.signal }, async () => {});
      stop.abort(new Error('stopped'));
      await expect(other).rejects.toThrow('stopped');
    });
  });

  test('a holder of this machine that has died is followed at once', async () => {
    const child = spawn(process.execPath, ['-e', '']);
    await once(child, 'exit');
    await writeFile(path, await ownText({ pid: child.pid as number }));
    expect(await withLock(path, { ...options, waitTimeout: 0 }, async () => 'done')).toBe('done');
  });

  test('a pid that is used again is not the holder', async () => {
    await writeFile(path, await ownText({ startTime: '1' }));
    expect(await withLock(path, { ...options, waitTimeout: 0 }, async () => 'done')).toBe('done');
  });

  test.each([
    ['host', { host: 'another-pod' }],
    ['pid namespace', { pidNamespace: 'pid:[1]' }],
    ['boot', { bootId: 'another machine of the same name' }],
  ])('of another %s only the age counts, whatever its pid is', async (_, changes) => {
    await writeFile(path, await ownText({ pid: 999_999_999, ...changes }));
    const tryOnce = () => withLock(path, { ...options, waitTimeout: 0 }, async () => 'done');
    await expect(tryOnce()).rejects.toMatchObject({ kind: 'transient' });
    await age(path, 29);
    await expect(tryOnce()).rejects.toMatchObject({ kind: 'transient' });
    await age(path, 31);
    expect(await tryOnce()).toBe('done');
  });

  test('one whose writer died before its text was there is judged by its age', async () => {
    await ownText();
    await writeFile(path, '');
    const tryOnce = () => withLock(path, { ...options, waitTimeout: 0 }, async () => 'done');
    await expect(tryOnce()).rejects.toMatchObject({ kind: 'transient', message: expect.stringContaining('unknown run') });
    await age(path, 31);
    expect(await tryOnce()).toBe('done');
  });

  test('is never there without the name of its holder', async () => {
    const seen: string[] = [];
    let open = 20;
    const work = Array.from({ length: open }, async () => {
      await withLock(path, options, async () => {});
      open -= 1;
    });
    while (open > 0) {
      if (existsSync(path)) seen.push(await readFile(path, 'utf8').catch(() => 'gone'));
      await new Promise(setImmediate);
    }
    await Promise.all(work);
    expect([seen.includes(''), seen.length > 0]).toEqual([false, true]);
  });

  test('is renewed while it is held', async () => {
    await withLock(path, { ...options, renewMs: 2 }, async () => {
      await age(path, 100);
      await expect.poll(async () => Date.now() - ((await look(path))?.mtimeMs ?? 0), { interval: 2 }).toBeLessThan(50_000);
    });
  });

  test('who lost it is told, and leaves the new one alone', async () => {
    const work = withLock(path, { ...options, renewMs: 2 }, async (signal) => {
      await writeFile(`${path}.new`, 'the lock of another run');
      await rename(`${path}.new`, path);
      await sleep(10_000, undefined, { signal }).catch(() => signal.throwIfAborted());
    });
    await expect(work).rejects.toMatchObject({ kind: 'transient', message: expect.stringContaining('took it over') });
    expect(await readFile(path, 'utf8')).toBe('the lock of another run');
  });
});

test('a lock that is not the one that was judged stays', async () => {
  await ownText();
  await writeFile(path, 'stale');
  const judged = await look(path);
  await rm(path);
  await writeFile(path, 'fresh');
  expect(await takeAway(path, judged!)).toBe(false);
  expect(await readFile(path, 'utf8')).toBe('fresh');
  expect(await readdir(join(dir, 'model'))).toEqual(['lock']);
});
