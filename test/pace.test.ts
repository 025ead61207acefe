import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Governor, type Turn } from '../lib/transfer/governor.ts';
import { Rate, TrickleWatch } from '../lib/transfer/rate.ts';
import { download } from '../tasks/download/step.ts';
import { sync } from '../tasks/sync/step.ts';
import { upload } from '../tasks/upload/step.ts';
import { type FakeCache, openCache } from './fakes/cache.ts';
import { type FakeHub, tooManyRequests } from './fakes/hub.ts';
import { tinyLlama } from './fakes/model.ts';
import { runInProcess } from './fakes/program.ts';
import { type FakeS3, s3Answer } from './fakes/s3.ts';
import type { FakeServer, SeenRequest } from './fakes/server.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** A clock that stands until a pause is asked for, and then jumps. */
function clock() {
  let at = 0;
  const pauses: number[] = [];
  const pause = async (ms: number) => {
    pauses.push(ms);
    at += ms;
  };
  return { now: () => at, pause, pauses };
}

describe('a governor', () => {
  /** Asks that many times at once; those that got in stand in `inside`. */
  async function ask(governor: Governor, count: number): Promise<Turn[]> {
    const inside: Turn[] = [];
    for (let i = 0; i < count; i += 1) void governor.enter().then((one) => inside.push(one));
    await turn();
    return inside;
  }
  const end = (turns: Turn[], status = 200) => {
    for (const one of turns.splice(0)) {
      one.answered(status, {});
      one.leave();
    }
  };

  test('lets everybody in until the origin has had too much, then half of them, and one more for each good round', async () => {
    const governor = new Governor(clock());
    const first = await ask(governor, 8);
    expect(first.length).toBe(8);
    // All eight are refused: they are one round, which halves once.
    end(first, 503);
    const inside = await ask(governor, 20);
    expect(inside.length).toBe(4);
    end(inside.splice(0, 4));
    await turn();
    expect(inside.length).toBe(5);
    end(inside.splice(0, 5));
    await turn();
    expect(inside.length).toBe(6);
    end(inside.splice(0, 6), 429);
    await turn();
    expect(inside.length).toBe(3);
    end(inside, 503);
    for (let refused = 0; refused < 5; refused += 1) end(await ask(governor, 1), 503);
    expect((await ask(governor, 3)).length).toBe(1);
  });

  test('one Retry-After holds everybody back, also those who ask later', async () => {
    const time = clock();
    const overloads: number[][] = [];
    const governor = new Governor({ ...time, onOverload: (...words) => overloads.push(words) });
    const inside = await ask(governor, 4);
    inside[0]?.answered(429, { 'retry-after': '7' });
    inside[0]?.leave();
    expect(overloads).toEqual([[2, 7000]]);
    end(inside.slice(1));
    await ask(governor, 1);
    expect(time.pauses).toEqual([7000]);
    expect(time.now()).toBe(7000);
  });

  test('whoever is told to stay away for too long is not waited for', async () => {
    const governor = new Governor(clock());
    const [one] = await ask(governor, 1);
    one?.answered(503, { 'retry-after': '3600' });
    one?.leave();
    await expect(governor.enter()).rejects.toMatchObject({ kind: 'transient', retryAfterMs: 3_600_000 });
  });

  test('whoever stops waiting takes no place', async () => {
    const governor = new Governor(clock());
    end(await ask(governor, 2), 503);
    const [inside] = await ask(governor, 1);
    const stop = new AbortController();
    const waiting = governor.enter(stop.signal);
    const behind = governor.enter();
    await turn();
    stop.abort(new Error('stopped'));
    await expect(waiting).rejects.toThrow('stopped');
    inside?.leave();
    inside?.leave();
    (await behind).leave();
  });
});

test('a rate pauses whoever has moved more than it allows, all together', () => {
  let at = 1000;
  const rate = new Rate(1_000_000, () => at);
  // 50 ms of the rate are free after a pause.
  expect(rate.count(50_000)).toBeCloseTo(0);
  expect(rate.count(100_000)).toBeCloseTo(100);
  expect(rate.count(100_000)).toBeCloseTo(200);
  at += 200;
  expect(rate.count(10_000)).toBeCloseTo(10);
  expect(new Rate(Number.POSITIVE_INFINITY, () => at).count(1e12)).toBe(0);
});

test('a trickle is noticed after the window, a slow line and our own pauses are not', () => {
  let at = 0;
  const watch = new TrickleWatch(1000, () => at);
  const seen = (ms: number, bytes: number) => {
    at += ms;
    return watch.isTrickling(bytes);
  };
  expect(seen(500, 2000)).toBe(false);
  expect(seen(500, 1)).toBe(false);
  watch.paused(900);
  expect(seen(900, 1)).toBe(false);
  expect(seen(999, 1)).toBe(false);
  expect(seen(1, 1)).toBe(true);
});

describe('a run', () => {
  const files = tinyLlama({ shardBytes: 11_000_000 });
  let cache: FakeCache;
  let hub: FakeHub;
  let s3: FakeS3;
  let env: Record<string, string>;
  beforeEach(async () => {
    cache = await openCache({ 'acme/tiny': files });
    ({ hub, s3 } = cache);
    env = { ...cache.env, MODEL_ID: 'acme/tiny', PART_SIZE: '5MiB', RETRIES: '8' };
  });
  afterEach(() => cache.close());

  const oneSecond = { headers: { 'retry-after': '1' } };
  test.each<[string, (end: { hub: FakeHub; s3: FakeS3 }) => FakeServer, RegExp, ReturnType<typeof s3Answer>]>([
    ['the Hub', ({ hub }) => hub.hub, /resolve/, { ...tooManyRequests(1), body: '', headers: { ratelimit: '"api";r=0;t=1' } }],
    ['its CDN', ({ hub }) => hub.cdn, /GET/, { status: 503, body: '', ...oneSecond }],
    ['S3', (end) => end.s3, /partNumber=2/, s3Answer('SlowDown', oneSecond)],
  ])('asks %s nothing while it wants to be left alone, over all connections', async (_, side, on, answer) => {
    const server = side({ hub, s3 });
    let told: SeenRequest | undefined;
    let toldAt = 0;
    server.onDone = (request) => {
      if (told === undefined && (request.status === 429 || request.status === 503)) [told, toldAt] = [request, performance.now()];
    };
    server.fail({ on, answer });
    const { exitCode, stderr } = await runInProcess(sync, [], env);
    expect(exitCode, stderr).toBe(0);
    expect(told).toBeDefined();
    // What was under way when the answer came is not the run's fault.
    const grace = 200;
    const asked = server.requests.filter(({ at }) => at > toldAt + grace && at < toldAt + 900);
    expect(asked.map(({ method, url }) => `${method} ${url}`)).toEqual([]);
    expect(server.requests.some(({ at }) => at >= toldAt + 900)).toBe(true);
  });

  test('gets through a store that takes two requests at once, with fewer and fewer refusals', async () => {
    let running = 0;
    let refused = 0;
    const third = Promise.withResolvers<void>();
    const onDone = s3.onDone;
    s3.onDone = (request) => {
      onDone?.(request);
      if (/partNumber/.test(request.url)) running -= 1;
    };
    const busy = ({ url }: SeenRequest) => {
      if (!/partNumber/.test(url)) return false;
      running += 1;
      if (running <= 2) return false;
      refused += 1;
      third.resolve();
      return true;
    };
    s3.fail({ on: busy, times: 1000, answer: s3Answer('SlowDown') });
    // Else they may be over before a third one comes.
    s3.fail({ on: /partNumber/, times: 2, hold: third.promise });
    const { exitCode, stderr } = await runInProcess(sync, ['--concurrency', '16'], env);
    expect(exitCode, stderr).toBe(0);
    expect(stderr).toContain('fewer requests at once');
    expect(refused).toBeLessThan(40);
  });

  test.each([
    ['download', download],
    ['sync', sync],
  ])('%s gives up a CDN connection that only trickles, and goes on', async (_, step) => {
    hub.cdn.fail({ on: /GET/, times: 2, trickleMs: 5 });
    const { exitCode, stderr } = await runInProcess(step, ['--stall-timeout', '600ms'], env);
    expect(exitCode, stderr).toBe(0);
    expect(stderr).toContain('only trickling');
  });

  test('gives up a listing that only trickles', async () => {
    hub.fail({ on: /tree/, trickleMs: 5 });
    const { exitCode, stderr } = await runInProcess(download, ['--stall-timeout', '600ms'], env);
    expect(exitCode, stderr).toBe(0);
    expect(stderr).toContain('only trickling');
  });

  test.each([
    ['upload', upload],
    ['sync', sync],
  ])('%s gives up an S3 that takes its bytes one by one, tries again, and ends in exit code 5 if it stays so', async (_, step) => {
    expect((await runInProcess(download, [], env)).exitCode).toBe(0);
    const heal = s3.fail({ on: /PUT .*partNumber=1/, times: Number.POSITIVE_INFINITY, sipMs: 5 });
    const { exitCode, stderr } = await runInProcess(step, ['--stall-timeout', '600ms', '--retries', '1'], env);
    expect(exitCode, stderr).toBe(5);
    expect(stderr).toMatch(/trying again.*(silent|hardly moving) for 1 s|(silent|hardly moving) for 1 s.*trying again/);
    const tries = s3.seen(/partNumber=1&/).map(({ bytesIn, headers }) => bytesIn < Number(headers['content-length']));
    expect(tries.length).toBeGreaterThanOrEqual(2);
    expect(tries.every((cut) => cut)).toBe(true);
    heal();
    s3.fail({ on: /PUT .*partNumber=1/, sipMs: 5 });
    const again = await runInProcess(step, ['--stall-timeout', '600ms'], env);
    expect(again.exitCode, again.stderr).toBe(0);
  });

  test('--bandwidth-limit holds each way, all connections together', async () => {
    const bytes = 22_000_000;
    const timed = async (...words: Parameters<typeof runInProcess>) => {
      const began = performance.now();
      const { exitCode, stderr } = await runInProcess(...words);
      expect(exitCode, stderr).toBe(0);
      return performance.now() - began;
    };
    // What lies in the sockets' buffers when the last bytes are read is paused for no more: a bound, not a measure.
    const least = (bytes / 20_000_000) * 1000 * 0.5;
    expect(await timed(download, ['--bandwidth-limit', '20MB'], env)).toBeGreaterThan(least);
    expect(await timed(upload, ['--bandwidth-limit', '20MB'], env)).toBeGreaterThan(least);
    expect((await runInProcess(upload, ['--bandwidth-limit', 'much'], env)).exitCode).toBe(2);
  });
});
