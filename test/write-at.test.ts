import { randomBytes } from 'node:crypto';
import { mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { writeAt } from '../lib/write-at.ts';

test('bytes are written to the end, however few the system takes at once', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'write-at-'));
  try {
    await using real = await open(join(dir, 'file'), 'w');
    const asked: number[] = [];
    // As a disk does that is nearly full, and frees room meanwhile.
    const sparing = {
      write(bytes: Uint8Array, from: number, length: number, position: number) {
        asked.push(length);
        return real.write(bytes, from, Math.min(length, 300), position);
      },
    };
    const bytes = randomBytes(1000);
    await writeAt(sparing, bytes, 5);
    await writeAt(sparing, bytes, 1005, 400);
    expect((await readFile(join(dir, 'file'))).subarray(5).equals(Buffer.concat([bytes, bytes]))).toBe(true);
    expect(asked).toEqual([1000, 700, 400, 100, 400, 400, 400, 100]);
  } finally {
    await rm(dir, { recursive: true });
  }
});
