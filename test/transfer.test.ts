import { createHash } from 'node:crypto';
import { mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { StepError } from '../lib/errors.ts';
import { feedFile, sha256Of, Verifier } from '../lib/integrity.ts';
import { createLog, Redactor } from '../lib/log.ts';
import { Budget } from '../lib/transfer/budget.ts';
import { BufferPool } from '../lib/transfer/buffers.ts';
import { moveParts, type PartsJob, type PartsOptions } from '../lib/transfer/parts.ts';
import { allEnded, mapLimited } from '../lib/transfer/pool.ts';
import { retry, retryAfterMs } from '../lib/transfer/retry.ts';
import { gitBlobOid } from './fakes/content.ts';

const never = new AbortController().signal;
const turn = () => new Promise((resolve) => setImmediate(resolve));

describe('moveParts', () => {
  const bytes = Buffer.from(Array.from({ length: 1000 }, (_, index) => index % 251));

  interface Seen {
    running: number;
    mostRunning: number;
    mostBytes: number;
    lent: number;
    taken: { offset: number; length: number }[];
    target: Buffer;
  }

  /** A job that ends its reads in a random order, and looks whether anybody breaks the rules. */
  function job(seen: Seen, changes: Partial<PartsJob> = {}): PartsJob & { digest: () => string } {
    const hash = createHash('sha256').update(bytes.subarray(0, changes.from ?? 0));
    return {
      size: bytes.length,
      from: 0,
      async read(offset, into) {
        seen.running += 1;
        seen.lent += into.length;
        seen.mostRunning = Math.max(seen.mostRunning, seen.running);
        seen.mostBytes = Math.max(seen.mostBytes, seen.lent);
        for (let left = Math.floor(Math.random() * 4); left > 0; left -= 1) await turn();
        bytes.copy(into, 0, offset, offset + into.length);
        seen.running -= 1;
      },
      hash,
      async take(part, offset) {
        seen.taken.push({ offset, length: part.length });
        await turn();
        part.copy(seen.target, offset);
        seen.lent -= part.length;
      },
      ...changes,
      digest: () => hash.digest('hex'),
    };
  }

  const fresh = (): Seen => ({ running: 0, mostRunning: 0, mostBytes: 0, lent: 0, taken: [], target: Buffer.alloc(bytes.length) });
  const options = (connections: number, buffers: number, partSize: number, signal = never, rangeSize?: number): PartsOptions => ({
    connections: new Budget(connections),
    buffers: new BufferPool(buffers),
    partSize,
    rangeSize,
    signal,
  });

  test.each([
    [8, 10_000, 100],
    [1, 10_000, 100],
    [8, 100, 100],
    [8, 250, 100],
    [3, 10_000, 7],
    [8, 10_000, 5000],
    [8, 64, 100],
    [8, 300, 100, 30],
    [2, 100, 100, 1],
    [8, 300, 100, 101],
  ])(
    '%i connections, %i bytes, parts of %i: all bytes, in order, under the budgets',
    async (connections, buffers, partSize, range?: number) => {
      const seen = fresh();
      const moved = job(seen);
      await moveParts(options(connections, buffers, partSize, never, range), moved);
      expect(seen.target.equals(bytes)).toBe(true);
      expect(moved.digest()).toBe(sha256Of(bytes));
      expect(seen.taken.map(({ offset }) => offset)).toEqual(seen.taken.map(({ offset }) => offset).sort((a, b) => a - b));
      expect(seen.mostRunning).toBeLessThanOrEqual(connections);
      expect(seen.mostBytes).toBeLessThanOrEqual(buffers);
    },
  );

  test('a part is read by several connections, in even ranges', async () => {
    const seen = fresh();
    const asked: string[] = [];
    const one = job(seen);
    const together = [0, 500].map(() => Promise.withResolvers<void>());
    const read: PartsJob['read'] = async (offset, into, signal) => {
      asked.push(`${offset}+${into.length}`);
      // No range of a part is there before all three were asked for.
      const { promise, resolve } = together[offset < 500 ? 0 : 1]!;
      if (asked.length % 3 === 0) resolve();
      await promise;
      await one.read(offset, into, signal);
    };
    await moveParts(options(8, 500, 500, never, 200), { ...one, read });
    expect(asked).toEqual(['0+167', '167+167', '334+166', '500+167', '667+167', '834+166']);
    expect(seen.taken.map(({ offset }) => offset)).toEqual([0, 500]);
    expect(seen.target.equals(bytes)).toBe(true);
  });

  test('many files share the budgets, and none waits for ever', async () => {
    const shared = options(4, 300, 100);
    const all = Array.from({ length: 20 }, () => fresh());
    let running = 0;
    let most = 0;
    await Promise.all(
      all.map(async (seen) => {
        const one = job(seen);
        const read: PartsJob['read'] = async (...words) => {
          running += 1;
          most = Math.max(most, running);
          await one.read(...words);
          running -= 1;
        };
        await moveParts(shared, { ...one, read });
      }),
    );
    expect(all.every(({ target }) => target.equals(bytes))).toBe(true);
    // Three buffers, so never four connections.
    expect(most).toBe(3);
  });

  test('goes on from where it was', async () => {
    const seen = fresh();
    bytes.copy(seen.target, 0, 0, 333);
    const moved = job(seen, { from: 333 });
    await moveParts(options(4, 1000, 100), moved);
    expect(seen.taken[0]).toEqual({ offset: 333, length: 100 });
    expect(seen.target.equals(bytes)).toBe(true);
    expect(moved.digest()).toBe(sha256Of(bytes));
  });

  test('nothing is to be moved', async () => {
    const seen = fresh();
    await moveParts(options(4, 1000, 100), job(seen, { from: 1000 }));
    expect(seen.taken).toEqual([]);
  });

  test.each([
    ['read', 100],
    ['hash', 100],
    ['take', 100],
    ['read', 30],
    ['hash', 30],
  ])(
    'a failure in %s ends all parts of the file, gives all back, and is thrown when none runs (ranges of %i)',
    async (where, rangeSize) => {
      const shared = options(4, 500, 100, never, rangeSize);
      const seen = fresh();
      const one = job(seen);
      let calls = 0;
      const failing = async (work: () => unknown) => {
        calls += 1;
        if (calls === 3) throw new Error('no');
        await work();
      };
      const changed: PartsJob = {
        ...one,
        ...(where === 'read' ? { read: (...words) => failing(() => one.read(...words)) } : {}),
        ...(where === 'take' ? { take: (...words) => failing(() => one.take(...words)) } : {}),
        ...(where === 'hash'
          ? {
              hash: {
                update() {
                  calls += 1;
                  if (calls === 3) throw new Error('no');
                },
              },
            }
          : {}),
      };
      await expect(moveParts(shared, changed)).rejects.toThrow('no');
      expect(seen.running).toBe(0);
      expect(seen.taken.length).toBeLessThan(5);
      const again = fresh();
      await moveParts(shared, job(again));
      expect(again.target.equals(bytes)).toBe(true);
    },
  );

  test('the signal ends it, with what it says', async () => {
    const stop = new AbortController();
    const seen = fresh();
    const read: PartsJob['read'] = (_, __, signal) =>
      new Promise((___, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true }));
    const done = moveParts(options(2, 500, 100, stop.signal), job(seen, { read }));
    stop.abort(new Error('stopped'));
    await expect(done).rejects.toThrow('stopped');
    expect(seen.taken).toEqual([]);
  });
});

describe('a budget', () => {
  test('is handed out in the order it is asked for', async () => {
    const budget = new Budget(10);
    const order: string[] = [];
    const ask = async (name: string, amount: number) => {
      const back = await budget.take(amount, never);
      order.push(name);
      return back;
    };
    const first = await ask('8', 8);
    const large = ask('more than all', 99);
    const small = ask('1', 1);
    await turn();
    expect(order).toEqual(['8']);
    first();
    first();
    (await large)();
    (await small)();
    expect(order).toEqual(['8', 'more than all', '1']);
    (await ask('all', 10))();
  });

  test('whoever stops waiting lets those behind go on', async () => {
    const budget = new Budget(2);
    const one = await budget.take(1, never);
    const stop = new AbortController();
    const waiting = budget.take(2, stop.signal);
    const behind = budget.take(1, never);
    stop.abort(new Error('stopped'));
    await expect(waiting).rejects.toThrow('stopped');
    (await behind)();
    one();
    (await budget.take(2, never))();
  });
});

test('a pool of workers takes each item once, and ends at the first failure', async () => {
  let running = 0;
  let most = 0;
  const doubled = await mapLimited([1, 2, 3, 4, 5, 6, 7], 3, async (item) => {
    running += 1;
    most = Math.max(most, running);
    await turn();
    running -= 1;
    return item * 2;
  });
  expect(doubled).toEqual([2, 4, 6, 8, 10, 12, 14]);
  expect(most).toBe(3);
  const started: number[] = [];
  const failing = mapLimited([1, 2, 3, 4, 5, 6], 2, async (item) => {
    started.push(item);
    await turn();
    if (item === 2) throw new Error('two');
  });
  await expect(failing).rejects.toThrow('two');
  expect(started.length).toBeLessThan(6);
});

test('of what runs side by side, the first in the list that failed is told, and only when nothing runs any more', async () => {
  const running = new Set<string>();
  const work = async (name: string, turns: number, fails: boolean) => {
    running.add(name);
    for (let i = 0; i < turns; i += 1) await turn();
    running.delete(name);
    if (fails) throw new Error(name);
    return name;
  };
  const ended = allEnded([work('slow', 3, true), work('quick', 1, true), work('slowest', 6, false)]);
  await expect(ended).rejects.toThrow('slow');
  expect(running).toEqual(new Set());
  expect(await allEnded([work('a', 2, false), 1, undefined, work('b', 1, false)])).toEqual(['a', 1, undefined, 'b']);
});

describe('retry', () => {
  const lines: string[] = [];
  const log = createLog({ level: 'warn', format: 'json', redactor: new Redactor(), write: (line) => lines.push(line) });
  const transient = (ms = 0) => new StepError('transient', 'failed to try: busy', { retryAfterMs: ms });

  test('tries what may pass again, as often as it may', async () => {
    let calls = 0;
    const work = async () => {
      calls += 1;
      if (calls < 3) throw transient();
      return calls;
    };
    expect(await retry({ retries: 2, signal: never, log, what: 'x' }, work)).toBe(3);
    calls = 0;
    await expect(retry({ retries: 1, signal: never, log, what: 'x' }, work)).rejects.toThrow('busy');
    expect(calls).toBe(2);
    expect(lines.every((line) => line.includes('trying again'))).toBe(true);
  });

  test.each([
    ['what stays', new StepError('denied', 'no')],
    ['what nobody foresaw', new TypeError('no')],
    ['who asks for an hour', transient(3_600_000)],
  ])('never tries %s again', async (_, error) => {
    let calls = 0;
    const work = () => {
      calls += 1;
      return Promise.reject(error);
    };
    await expect(retry({ retries: 9, signal: never, log, what: 'x' }, work)).rejects.toBe(error);
    expect(calls).toBe(1);
  });

  test('a wait ends with the signal', async () => {
    const stop = new AbortController();
    const done = retry({ retries: 9, signal: stop.signal, log, what: 'x' }, () => Promise.reject(transient(200_000)));
    await turn();
    stop.abort(new Error('stopped'));
    await expect(done).rejects.toThrow('stopped');
  });

  test('Retry-After is seconds or a date', () => {
    const now = Date.UTC(2026, 0, 1);
    expect(retryAfterMs('7', now)).toBe(7000);
    expect(retryAfterMs('Thu, 01 Jan 2026 00:00:05 GMT', now)).toBe(5000);
    expect(retryAfterMs('Wed, 31 Dec 2025 00:00:00 GMT', now)).toBe(0);
    expect(retryAfterMs('soon', now)).toBeUndefined();
    expect(retryAfterMs(undefined, now)).toBeUndefined();
  });
});

describe('integrity', () => {
  const bytes = Buffer.alloc(2_500_000, 'abc');

  test('a verifier compares size, sha256 and the git name', () => {
    const good = { path: 'x', size: 3, sha256: sha256Of('abc'), gitSha1: gitBlobOid(Buffer.from('abc')) };
    const check = (changes: object) => {
      const verifier = new Verifier({ ...good, ...changes });
      verifier.update(Buffer.from('ab'));
      verifier.update(Buffer.from('c'));
      return verifier.finish();
    };
    expect(check({})).toBe(good.sha256);
    expect(check({ sha256: undefined })).toBe(good.sha256);
    for (const wrong of [{ size: 4, gitSha1: undefined }, { sha256: '0'.repeat(64) }, { gitSha1: '0'.repeat(40) }]) {
      expect(() => check(wrong)).toThrow(expect.objectContaining({ kind: 'integrity', message: expect.stringContaining('x') }));
    }
  });

  test('feeds a file, or its beginning, but no link', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'feed-'));
    try {
      const path = join(dir, 'file');
      await writeFile(path, bytes);
      const digest = async (length?: number) => {
        const hash = createHash('sha256');
        await feedFile(path, hash, never, length);
        return hash.digest('hex');
      };
      expect(await digest()).toBe(sha256Of(bytes));
      expect(await digest(1_234_567)).toBe(sha256Of(bytes.subarray(0, 1_234_567)));
      expect(await digest(0)).toBe(sha256Of(''));
      await symlink(path, join(dir, 'link'));
      await expect(feedFile(join(dir, 'link'), createHash('sha256'), never)).rejects.toMatchObject({ code: 'ELOOP' });
      const stop = new AbortController();
      stop.abort(new Error('stopped'));
      await expect(feedFile(path, createHash('sha256'), stop.signal)).rejects.toThrow('stopped');
    } finally {
      await rm(dir, { recursive: true });
    }
  });
});
