import { expect, test } from 'vitest';
import { buffersFor, cutting, partSizeFor } from '../lib/publish/part-size.ts';
import { s3Limits } from '../lib/s3/store.ts';
import { Budget } from '../lib/transfer/budget.ts';
import { BufferPool, bufferBytes, sizeForAll } from '../lib/transfer/buffers.ts';
import { moveParts } from '../lib/transfer/parts.ts';
import { FakeClock } from './fakes/clock.ts';

const mebibyte = 1024 ** 2;
const { signal } = new AbortController();

/** Bytes per second of 512 MiB in two files from one end to the other in the default memory, where a request takes `rtt` ms and its bytes as long as `rate` (bytes/s) says. */
async function speedOf(concurrency: number, { rtt, rate }: { rtt: number; rate: number }): Promise<number> {
  const clock = new FakeClock();
  const request = (bytes: number) => clock.sleep(rtt + (bytes / rate) * 1000);
  const [size, maxMemory] = [256 * mebibyte, 256 * mebibyte];
  const [sources, connections, buffers] = [
    new Budget(concurrency),
    new Budget(concurrency),
    new BufferPool(bufferBytes(maxMemory, concurrency)),
  ];
  const cut = cutting(16 * mebibyte, buffers.total, buffersFor({ latencyMs: rtt }, concurrency, concurrency));
  const partSize = partSizeFor(size, cut, s3Limits);
  const parts = { connections: sources, buffers, partSize, rangeSize: sizeForAll(partSize, buffers.total, 2 * concurrency), signal };
  const move = () =>
    moveParts(parts, {
      size,
      from: 0,
      partSize,
      read: (_, into) => request(into.length),
      hash: { update() {} },
      async take(bytes) {
        const leave = await connections.take(1, signal);
        await request(bytes.length);
        leave();
      },
    });
  await clock.runUntil(Promise.all([move(), move()]));
  return (2 * size) / (clock.now() / 1000);
}

test.each([
  // Four connections bring 308 and 46 MB/s with parts of 16 MiB, and no more of them ever would; eight bring 470 and 87 with 10 MiB.
  { rtt: 50, rate: 200e6, one: 120, four: 350, eight: 490, sixteen: 530 },
  { rtt: 50, rate: 20e6, one: 18, four: 60, eight: 115, sixteen: 150 },
])('more connections carry more over a link of $rtt ms and $rate bytes a second each', async ({ one, four, eight, sixteen, ...link }) => {
  expect(await speedOf(1, link)).toBeGreaterThan(one * 1e6);
  expect(await speedOf(4, link)).toBeGreaterThan(four * 1e6);
  expect(await speedOf(8, link)).toBeGreaterThan(eight * 1e6);
  expect(await speedOf(16, link)).toBeGreaterThan(sixteen * 1e6);
  // Each takes memory of its own too: so many are no faster any more, but no slower than a few.
  expect(await speedOf(64, link)).toBeGreaterThan(1.3 * four * 1e6);
});
