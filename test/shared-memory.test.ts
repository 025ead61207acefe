import { describe, expect, test } from 'vitest';
import { SharedMemory } from '../lib/compression/shared-memory.ts';

const MiB = 1024 ** 2;

describe('the memory that threads share', () => {
  /** Equal numbers each time. */
  function* random(): Generator<number> {
    for (let state = 1; ; ) {
      state = (state * 48_271) % 0x7fffffff;
      yield state / 0x7fffffff;
    }
  }

  test('never gives the same bytes to two, and all of them again when they are back', () => {
    const memory = new SharedMemory(MiB);
    const chance = random();
    const next = (most: number) => Math.floor(chance.next().value * most);
    const out: { piece: Uint8Array<SharedArrayBuffer>; mark: number }[] = [];
    for (let round = 0; round < 5000; round += 1) {
      if (out.length > 0 && next(100) < 48) {
        const [{ piece, mark }] = out.splice(next(out.length), 1) as [(typeof out)[0]];
        expect(piece.length === 0 || (piece[0] === mark && piece.at(-1) === mark)).toBe(true);
        memory.give(piece);
      } else {
        const [size, mark] = [next(40_000), round % 256];
        const piece = memory.take(size);
        expect(piece.length).toBe(size);
        if (size > 0) [piece[0], piece[size - 1]] = [mark, mark];
        out.push({ piece, mark });
      }
    }
    for (const { piece } of out) memory.give(piece);
    const whole = memory.take(MiB);
    expect([whole.byteOffset, whole.length, whole.buffer.byteLength]).toEqual([0, MiB, MiB]);
    expect(memory.take(1).buffer).not.toBe(whole.buffer);
    memory.giveAll();
    expect(memory.take(1).buffer).toBe(whole.buffer);
  });

  test('holds no more than is in use at once, however sizes change: those of square blocks of a large model', () => {
    const memory = new SharedMemory();
    const blocks = new Set<SharedArrayBuffer>();
    let end = 0;
    for (let layer = 0; layer < 20; layer += 1) {
      for (const cols of [8192, 1024, 28_672, 8192]) {
        const out: Uint8Array<SharedArrayBuffer>[] = [];
        // Rows and their codes, the oldest given back first.
        for (let piece = 0; piece < 40; piece += 1) {
          out.push(memory.take(128 * cols * 2), memory.take(128 * cols + cols / 64));
          for (const { buffer, byteOffset, length } of out.slice(-2)) {
            blocks.add(buffer);
            end = Math.max(end, byteOffset + length);
          }
          while (out.length > 8) memory.give(out.shift() as Uint8Array<SharedArrayBuffer>);
        }
        for (const piece of out) memory.give(piece);
      }
    }
    expect(blocks.size).toBe(1);
    expect(end).toBeLessThan(1.5 * 5 * 128 * 28_672 * 3);
  });
});
