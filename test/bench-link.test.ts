import { Agent, request } from 'node:http';
import { afterEach, describe, expect, test } from 'vitest';
import { inFrontOf } from './bench/front.ts';
import { Lane, type Link, noLink } from './bench/link.ts';
import { FakeClock } from './fakes/clock.ts';
import { FakeS3 } from './fakes/s3.ts';

/** 50 ms, 200 MB/s: 10 MB are under way when it is full. */
const link: Link = { rtt: 50, rate: 200e6 };
const setUp = link.rtt;

/** Sends so many bytes and waits until they have come; the far end takes them at once. */
function sent(lane: Lane, bytes: number): Promise<void> {
  return new Promise((come) =>
    lane.send(bytes, (taken) => {
      taken();
      come();
    }),
  );
}

/** Sends a body in pieces, each as soon as there is room. */
async function streamed(lane: Lane, bytes: number, piece = 256 * 1024): Promise<void> {
  let last = Promise.resolve();
  for (let at = 0; at < bytes; at += piece) {
    last = sent(lane, Math.min(piece, bytes - at));
    await new Promise<void>((go) => lane.whenRoom(go));
  }
  await last;
}

async function tookMs(clock: FakeClock, work: Promise<unknown>): Promise<number> {
  const before = clock.now();
  await clock.runUntil(work);
  return clock.now() - before;
}

describe("a link's timetable", () => {
  test('a new connection takes a round trip, a request and its answer one more and as long as their bytes take', async () => {
    const clock = new FakeClock();
    const [there, back] = [new Lane(link, 0, clock), new Lane(link, 0, clock)];
    const exchange = async (asked: number, answered: number) => {
      await streamed(there, asked);
      await streamed(back, answered);
    };
    expect(await tookMs(clock, exchange(1, 1))).toBeCloseTo(setUp + 50);
    expect(await tookMs(clock, exchange(1, 1))).toBeCloseTo(50);
    // A range of 8 MB, and a part of 16 MB: 40 and 80 ms of bytes. The second is more than the link holds: room comes in time.
    expect(await tookMs(clock, exchange(1, 8e6))).toBeCloseTo(50 + 40);
    expect(await tookMs(clock, exchange(16e6, 1))).toBeCloseTo(50 + 80);
    // The bytes of both ways do not wait for each other.
    expect(await tookMs(clock, Promise.all([streamed(there, 8e6), streamed(back, 8e6)]))).toBeCloseTo(25 + 40);
  });

  test('what is sent at once comes one behind the other, half a round trip late but once', async () => {
    const clock = new FakeClock();
    const lane = new Lane(link, 0, clock);
    const came: number[] = [];
    const each = [2e6, 4e6, 1e6].map(async (bytes) => {
      await sent(lane, bytes);
      came.push(clock.now() - setUp);
    });
    await clock.runUntil(Promise.all(each));
    expect(came.map(Math.round)).toEqual([10 + 25, 30 + 25, 35 + 25]);
  });

  test('time in which nothing was sent is lost', async () => {
    const clock = new FakeClock();
    const lane = new Lane(link, 0, clock);
    await clock.runUntil(clock.sleep(10_000));
    expect(await tookMs(clock, streamed(lane, 40e6))).toBeCloseTo(25 + 200);
  });

  test('who does not take what has come stops the sender, and nothing comes faster afterwards but what the link held', async () => {
    const clock = new FakeClock();
    const lane = new Lane(link, -setUp, clock);
    const untaken: (() => void)[] = [];
    let asked = 0;
    const send = () => {
      asked += 1e6;
      lane.send(1e6, (taken) => untaken.push(taken));
      if (asked < 100e6) lane.whenRoom(send);
    };
    send();
    await clock.runUntil(clock.sleep(10_000));
    expect(lane.hasRoom).toBe(false);
    // The 10 MB of the link, the slack, and the piece that was one too many.
    expect(asked).toBe(12e6);
    for (const taken of untaken.splice(0)) taken();
    await clock.runUntil(clock.sleep(24));
    expect(untaken).toEqual([]);
    await clock.runUntil(clock.sleep(6));
    expect(untaken).toHaveLength(1);
  });

  test('where nothing is slow all comes at once, and waits only for who takes it', () => {
    const lane = new Lane(noLink, 0, new FakeClock());
    const untaken: (() => void)[] = [];
    for (let i = 0; i < 3; i += 1) lane.send(1e6, (taken) => untaken.push(taken));
    expect([untaken.length, lane.hasRoom]).toEqual([3, false]);
    for (const taken of untaken) taken();
    expect(lane.hasRoom).toBe(true);
  });
});

describe('an end behind a link', () => {
  let server: FakeS3;
  afterEach(async () => await server.close());

  test('answers what it would, and never sooner than bytes come over the link', async () => {
    server = new FakeS3({ discard: true, fast: true });
    server.createBucket('bucket');
    const slow: Link = { rtt: 20, rate: 100e6 };
    await server.listen({ front: (http) => inFrontOf(http, slow) });
    const body = Buffer.alloc(5e6, 'weights');
    // The second and the third use the connection again.
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const ask = (method: string, sent?: Buffer) =>
      new Promise<{ status: number; bytes: number }>((resolve, reject) => {
        const asked = request(`${server.origin}/bucket/key`, { method, agent, headers: { 'content-length': sent?.length ?? 0 } });
        asked.on('error', reject);
        asked.on('response', (answer) => {
          let bytes = 0;
          answer.on('data', (piece: Buffer) => {
            bytes += piece.length;
          });
          answer.on('end', () => resolve({ status: answer.statusCode ?? 0, bytes }));
        });
        asked.end(sent);
      });
    const took: number[] = [];
    const timed = async (work: Promise<{ status: number; bytes: number }>) => {
      const before = performance.now();
      const answer = await work;
      took.push(performance.now() - before);
      return answer;
    };
    expect(await timed(ask('PUT', body))).toEqual({ status: 200, bytes: 0 });
    expect(await timed(ask('GET'))).toEqual({ status: 200, bytes: body.length });
    expect(await timed(ask('DELETE'))).toEqual({ status: 204, bytes: 0 });
    agent.destroy();
    // A connection, a round trip, 50 ms of bytes. A timer may go off a millisecond early.
    expect(took[0]).toBeGreaterThan(20 + 20 + 50 - 2);
    expect(took[1]).toBeGreaterThan(20 + 50 - 2);
    expect(took[2]).toBeGreaterThan(20 - 2);
  });
});
