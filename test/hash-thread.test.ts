import { randomBytes } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { HashThread } from '../lib/hashing/thread.ts';
import { digestsOf, verifierFor } from '../lib/hashing/verifier.ts';
import { sha256Of } from '../lib/integrity.ts';

/** Bytes in shared memory, as the buffers of parts are. */
function shared(length: number): Buffer {
  return Buffer.from(new SharedArrayBuffer(length)).fill(randomBytes(length));
}

describe('a thread that hashes', () => {
  test('keeps many hashes apart, and takes bytes of any memory', async () => {
    const thread = new HashThread();
    const files = [shared(300_000), randomBytes(100_000), shared(1)];
    const digests = files.map(async (bytes) => {
      using hash = thread.begin();
      for (let at = 0; at < bytes.length; at += 70_000) await hash.update(bytes.subarray(at, at + 70_000));
      return await hash.digest();
    });
    expect(await Promise.all(digests)).toEqual(files.map((bytes) => sha256Of(bytes)));
  });

  test('a hash that is let go disturbs no other, and one that is over is a bug to go on with', async () => {
    const thread = new HashThread();
    const bytes = shared(1000);
    const kept = thread.begin();
    {
      using dropped = thread.begin();
      await dropped.update(bytes);
    }
    await kept.update(bytes);
    expect(await kept.digest()).toBe(sha256Of(bytes));
    await expect(kept.update(bytes)).rejects.toMatchObject({ kind: 'bug' });
    expect(await thread.begin().digest()).toBe(sha256Of(''));
  });
});

describe('the verifier of a file in parts', () => {
  const bytes = shared(200_000);
  const sha256 = sha256Of(bytes);

  test.each([
    ['is content with the right bytes', { size: 200_000, sha256 }, undefined],
    ['tells a wrong digest', { size: 200_000, sha256: 'f'.repeat(64) }, `sha256 is ${sha256}`],
    ['tells a wrong size', { size: 199_999, sha256 }, 'size is 200000, expected 199999'],
    ['tells a wrong git sha1', { size: 200_000, gitSha1: '0'.repeat(40) }, 'git sha1 is'],
  ])('%s', async (_, expected, fault) => {
    using verifier = verifierFor({ path: 'model.safetensors', ...expected });
    await verifier.update(bytes.subarray(0, 4_000));
    await verifier.update(bytes.subarray(4_000));
    if (fault === undefined) expect(await verifier.finish()).toBe(sha256);
    else await expect(verifier.finish()).rejects.toMatchObject({ kind: 'integrity', message: expect.stringContaining(fault) });
  });
});

describe('the digests of a file that is there whole', () => {
  test.each([
    ['small', 1000],
    ['large', 200_000],
  ])('%s: sha256, and crc32 where it is wanted', async (_, size) => {
    const bytes = shared(size);
    const file = { path: 'model.safetensors', size, sha256: sha256Of(bytes) };
    expect(await digestsOf(file, bytes, { wantsCrc32: true })).toEqual({ sha256: file.sha256, crc32: crc32(bytes) });
    expect((await digestsOf(file, bytes, { wantsCrc32: false })).crc32).toBeUndefined();
    const wrong = { ...file, sha256: 'f'.repeat(64) };
    await expect(digestsOf(wrong, bytes, { wantsCrc32: true })).rejects.toMatchObject({ kind: 'integrity' });
  });
});
