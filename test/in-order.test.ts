import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { InOrder } from '../lib/compression/in-order.ts';
import { aheadBytes, sharesOf } from '../lib/compression/memory.ts';
import type { Plan, PlannedShard } from '../lib/compression/plan.ts';
import { kindOf } from '../lib/errors.ts';
import { Budget } from '../lib/transfer/budget.ts';
import { ReadAhead } from '../lib/transfer/read-ahead.ts';

const MiB = 1024 ** 2;
const never = new AbortController().signal;

describe('bytes that are made nearly in order', () => {
  /** As rows and their scales come: a piece of the first half, then one of the second. */
  function pieces(bytes: Buffer, step: number): [number, Buffer][] {
    const half = bytes.length / 2;
    const starts = Array.from({ length: half / step }, (_, i) => i * step);
    return starts.flatMap((at): [number, Buffer][] => [at, half + at].map((start) => [start, bytes.subarray(start, start + step)]));
  }

  test('fill the buffers of those who read side by side, the last one only when all were right', async () => {
    const bytes = randomBytes(4096);
    const output = new InOrder(bytes.length);
    const windows = [0, 1000, 2000, 3000, 4000].map((start) => Buffer.alloc(Math.min(1000, bytes.length - start)));
    // The second asks first.
    const order = [1, 0, 2, 3, 4];
    const reads = order.map((index) => output.read(index * 1000, windows[index] as Buffer));
    let released = 0;
    for (const [offset, piece] of pieces(bytes, 64)) {
      const scratch = Buffer.from(piece);
      await output.write(offset, scratch, () => {
        released += 1;
        scratch.fill(0);
      });
    }
    expect(released).toBe(64);
    await Promise.all(reads.slice(0, 4));
    let ended = false;
    const last = reads[4]?.then(() => {
      ended = true;
    });
    await Promise.resolve();
    expect(ended).toBe(false);
    output.end();
    await last;
    expect(Buffer.concat(windows).equals(bytes)).toBe(true);
  });

  test('wait for a reader, and end him and the maker when something fails', async () => {
    const output = new InOrder(64);
    const writing = output.write(0, randomBytes(64));
    const first = output.read(0, Buffer.alloc(16));
    await first;
    output.fail(new Error('no number'));
    await expect(writing).rejects.toThrow('no number');
    await expect(output.read(16, Buffer.alloc(16))).rejects.toThrow('no number');
  });
});

describe('memory', () => {
  const shard = (outputs: number[], tensors: number[]) =>
    ({
      layout: { tensors: tensors.map((size) => ({ size })) },
      work: [{ weights: [{ outputs: outputs.map((bytes) => ({ bytes })) }] }],
    }) as unknown as PlannedShard;
  const wish = { partSize: 16 * MiB, maxMemory: 256 * MiB, minPart: 5 * MiB, readsAhead: true };

  test('is kept for scales that wait for their weight, and for what does not end on 8 bytes', () => {
    expect(aheadBytes(shard([1000, 16, 8], [1000, 16, 8, 3]))).toBe(27);
  });

  test('is shared out below what was asked for; what cannot fit is refused with what is needed', () => {
    const plan = (ahead: number) => ({ shards: [shard([1, ahead], [])] }) as unknown as Plan;
    const { threads, buffers, part, readAhead } = sharesOf(plan(MiB), wish);
    expect(180 * MiB + threads * 20 * MiB + buffers + readAhead + MiB).toBeLessThanOrEqual(256 * MiB);
    expect([part >= 5 * MiB, buffers >= 2 * part, readAhead >= 8 * MiB]).toEqual([true, true, true]);
    let refused: unknown;
    try {
      sharesOf(plan(100 * MiB), wish);
    } catch (error) {
      refused = error;
    }
    expect(kindOf(refused)).toBe('usage');
    const [, needed] = /at least (\d+)MiB/.exec(String((refused as { hint?: string }).hint)) ?? [];
    expect(sharesOf(plan(100 * MiB), { ...wish, maxMemory: Number(needed) * MiB }).buffers).toBeGreaterThanOrEqual(10 * MiB);
    expect(() => sharesOf(plan(100 * MiB), { ...wish, maxMemory: (Number(needed) - 1) * MiB })).toThrow('--max-memory');
  });
});

describe('reading ahead', () => {
  const bytes = randomBytes(100_003);
  function source(reads: [number, number][], broken = -1) {
    return {
      async read(offset: number, into: Buffer) {
        reads.push([offset, into.length]);
        await new Promise((resolve) => setImmediate(resolve));
        if (offset === broken) throw new Error('cut');
        bytes.copy(into, 0, offset, offset + into.length);
      },
      close: async () => {},
    };
  }

  test('gives all bytes in pieces of any size, asks for each once, and holds no more than it may', async () => {
    const reads: [number, number][] = [];
    const options = { size: bytes.length, rangeSize: 1000, memory: 4500, connections: new Budget(3) };
    const ahead = new ReadAhead(source(reads), options);
    const got: Buffer[] = [];
    for (let at = 0, step = 1; at < bytes.length; step = (step * 7) % 2003) {
      const piece = Buffer.alloc(Math.min(step, bytes.length - at));
      await ahead.read(at, piece, never);
      at += piece.length;
      got.push(piece);
      expect((reads.at(-1)?.[0] ?? 0) - at).toBeLessThanOrEqual(4000);
    }
    await ahead.close();
    expect(Buffer.concat(got).equals(bytes)).toBe(true);
    expect(reads.map(([offset]) => offset)).toEqual(Array.from({ length: 101 }, (_, i) => i * 1000));
  });

  test('tells what a range met to him who needs it, and ends with its reader', async () => {
    const ahead = new ReadAhead(source([], 2000), { size: 5000, rangeSize: 1000, memory: 5000, connections: new Budget(8) });
    await ahead.read(0, Buffer.alloc(2000), never);
    await expect(ahead.read(2000, Buffer.alloc(10), never)).rejects.toThrow('cut');
    await ahead.close();
    const stopped = new AbortController();
    const stuck = { read: () => new Promise<void>(() => {}), close: async () => {} };
    const waiting = new ReadAhead(stuck, { size: 10, rangeSize: 10, memory: 10, connections: new Budget(1) }).read(
      0,
      Buffer.alloc(1),
      stopped.signal,
    );
    stopped.abort(new Error('ended'));
    await expect(waiting).rejects.toThrow('ended');
  });
});
