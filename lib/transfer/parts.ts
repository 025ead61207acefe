import type { Budget } from './budget.ts';
import type { BufferPool, LentBuffer } from './buffers.ts';

/** What all files of a run share: so many connections, so many bytes in memory. */
export interface PartsOptions {
  connections: Budget;
  buffers: BufferPool;
  /** Bytes. */
  partSize: number;
  /** Bytes of one read, where that is less than a part: then a part is read by several connections. */
  rangeSize?: number | undefined;
  signal: AbortSignal;
}

/** One file that is moved. */
export interface PartsJob {
  /** Bytes of the whole file, and how many of them are there already. */
  size: number;
  from: number;
  /** Bytes of a part, where this file needs exactly that; the run's size is a wish, which less memory makes smaller. */
  partSize?: number | undefined;
  /** Fills `into` with the bytes from `offset`; called for several parts at once. Retries are its own matter. */
  read: (offset: number, into: Buffer, signal: AbortSignal) => Promise<void>;
  /** Gets every byte once, in order; the next ones when it is settled. */
  hash: { update(bytes: Uint8Array): unknown };
  /**
   * Takes a part where it belongs. Called once for each part, in order, after it was hashed, but not only after the one before was taken:
   * who needs that waits itself. The bytes are its own until its promise is settled.
   */
  take: (bytes: Buffer, offset: number, signal: AbortSignal) => Promise<void>;
}

/**
 * Moves a file as parts: ranges are read side by side, hashed in order as soon as the next one is there, and handed on. Many files may be
 * moved at once under the same budgets. The first failure ends all parts of this file and is thrown once none of them runs any more.
 * No deadlock: buffers are lent in order, so that the part that others of its file wait for has one.
 */
export async function moveParts({ connections, buffers, partSize, rangeSize, signal }: PartsOptions, job: PartsJob): Promise<void> {
  const failed = new AbortController();
  const ended = AbortSignal.any([signal, failed.signal]);
  const moving = new Set<Promise<void>>();
  const size = job.partSize ?? Math.min(partSize, buffers.total);

  /** Never rejects: a failure ends all. */
  const read = async (offset: number, into: Buffer) => {
    try {
      const leave = await connections.take(1, ended);
      try {
        await job.read(offset, into, ended);
      } finally {
        leave();
      }
    } catch (error) {
      failed.abort(error);
    }
  };

  const move = async (offset: number, { bytes, release }: LentBuffer, before: Promise<void>, handedOn: () => void) => {
    const ranges = cut(bytes, rangeSize ?? size).map(({ at, range }) => ({ range, come: read(offset + at, range) }));
    try {
      await before;
      for (const { range, come } of ranges) {
        await come;
        ended.throwIfAborted();
        await job.hash.update(range);
        ended.throwIfAborted();
      }
      const taken = job.take(bytes, offset, ended);
      handedOn();
      await taken;
    } catch (error) {
      failed.abort(error);
    } finally {
      handedOn();
      await Promise.all(ranges.map(({ come }) => come));
      release();
    }
  };

  try {
    let before = Promise.resolve();
    for (let offset = job.from; offset < job.size; offset += size) {
      const length = Math.min(size, job.size - offset);
      // The last part takes a buffer like those before it: one of its own size would be made while theirs wait for the garbage collector.
      const { bytes, release } = await buffers.take(offset > job.from ? size : length, ended, size);
      const turn = Promise.withResolvers<void>();
      const part = move(offset, { bytes: bytes.subarray(0, length), release }, before, turn.resolve);
      before = turn.promise;
      moving.add(part);
      void part.finally(() => moving.delete(part));
    }
  } catch (error) {
    failed.abort(error);
  }
  await Promise.all(moving);
  ended.throwIfAborted();
}

/** A buffer in even pieces of at most so many bytes, each with where it begins. */
function cut(bytes: Buffer, most: number): { at: number; range: Buffer }[] {
  const count = Math.ceil(bytes.length / most);
  const size = Math.ceil(bytes.length / count);
  return Array.from({ length: count }, (_, index) => ({ at: index * size, range: bytes.subarray(index * size, (index + 1) * size) }));
}
