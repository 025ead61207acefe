import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Expected, sha256Of } from '../lib/integrity.ts';
import { openFilesOf } from '../lib/local/open-file.ts';
import { QuickCalls } from '../lib/local/quick-calls.ts';

const { signal } = new AbortController();
let dir: string;

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'open-file-'));
});
afterAll(() => rmSync(dir, { recursive: true }));

describe('a file of a model that is sent', () => {
  test.each([
    ['small', 1000],
    ['large', 3 * 1024 ** 2 + 1],
  ])('is read in any pieces: %s', async (name, size) => {
    const bytes = Buffer.alloc(size, `${name} weights`);
    writeFileSync(join(dir, name), bytes);
    const source = await openFilesOf(dir)({ path: name, size });
    const into = Buffer.alloc(size);
    await Promise.all([source.read(0, into.subarray(0, 500), signal), source.read(500, into.subarray(500), signal)]);
    expect(into.equals(bytes)).toBe(true);
    await source.close();
  });

  test('is not read once it is closed, and closed twice is closed once', async () => {
    writeFileSync(join(dir, 'one'), 'one');
    const source = await openFilesOf(dir)({ path: 'one', size: 3 });
    await Promise.all([source.close(), source.close()]);
    await expect(source.read(0, Buffer.alloc(3), signal)).rejects.toMatchObject({ kind: 'bug' });
  });

  test('that becomes shorter while it is read is told', async () => {
    writeFileSync(join(dir, 'shrinks'), 'weights');
    const source = await openFilesOf(dir)({ path: 'shrinks', size: 7 });
    truncateSync(join(dir, 'shrinks'), 3);
    await expect(source.read(0, Buffer.alloc(7), signal)).rejects.toThrow('it became shorter');
    await source.close();
  });

  test('is read and hashed in one turn where a thread can', async () => {
    const bytes = Buffer.alloc(300_000, 'weights');
    const sha256 = sha256Of(bytes);
    writeFileSync(join(dir, 'whole'), bytes);
    const open = (changes: Partial<Expected> = {}) => openFilesOf(dir)({ path: 'whole', size: bytes.length, sha256, ...changes });
    const shared = Buffer.from(new SharedArrayBuffer(bytes.length));
    const source = await open();
    expect(await source.readWhole?.(shared, { wantsCrc32: true })).toEqual({ sha256, crc32: crc32(bytes) });
    expect(shared.equals(bytes)).toBe(true);
    // A copy would be filled in their place.
    expect(await source.readWhole?.(Buffer.alloc(bytes.length), { wantsCrc32: false })).toBeUndefined();
    await source.close();
    await expect(source.readWhole?.(shared, { wantsCrc32: false })).rejects.toMatchObject({ kind: 'bug' });
    const wrong = await open({ sha256: 'f'.repeat(64) });
    await expect(wrong.readWhole?.(shared, { wantsCrc32: false })).rejects.toMatchObject({ kind: 'integrity' });
    await wrong.close();
    const shorter = await open();
    truncateSync(join(dir, 'whole'), 200_000);
    expect(await shorter.readWhole?.(shared, { wantsCrc32: true })).toBeUndefined();
    await expect(shorter.read(0, shared, signal)).rejects.toThrow('it became shorter');
    await shorter.close();
  });

  test('a pipe in its place is no file, and nobody waits for its writer', async () => {
    execFileSync('mkfifo', [join(dir, 'pipe')]);
    symlinkSync('pipe', join(dir, 'link'));
    for (const path of ['pipe', 'link']) await expect(openFilesOf(dir)({ path, size: 3 })).rejects.toMatchObject({ kind: 'integrity' });
  });
});

describe('calls that are quick', () => {
  const slow = () => {
    for (const end = performance.now() + 1.5; performance.now() < end; );
    return 'now';
  };
  const later = async () => 'later';

  test('are made at once, and by a thread for good after several slow ones', async () => {
    const calls = new QuickCalls();
    expect(await calls.call(() => 'now', later)).toBe('now');
    for (let at = 0; at < 8; at += 1) expect(await calls.call(slow, later)).toBe('now');
    expect(await calls.call(() => 'now', later)).toBe('later');
  });

  test('a failure is the caller’s', async () => {
    const fails = () => {
      throw new Error('no such file');
    };
    await expect(new QuickCalls().call(fails, later)).rejects.toThrow('no such file');
  });
});
