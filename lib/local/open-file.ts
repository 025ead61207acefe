import { close, closeSync, constants, fstatSync, open, openSync, read, type Stats } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { basename, dirname, join, sep } from 'node:path';
import { promisify } from 'node:util';
import { kindOf, messageOf, StepError } from '../errors.ts';
import { readDigests } from '../hashing/verifier.ts';
import type { Digests } from '../hashing/worker.ts';
import type { Expected } from '../integrity.ts';
import type { ByteSource } from '../publish/send.ts';
import { safeJoin } from '../workspace.ts';
import { QuickCalls } from './quick-calls.ts';

/** What memory gives is read much faster, and what most disks give is not. */
const quickBytesPerMs = 512 * 1024;

const [openLater, readLater, closeLater] = [promisify(open), promisify(read), promisify(close)];

/** Where a file of a model's folder is, links inside that folder followed. Throws `refused` when one leads out, `not-found` when it is missing. */
export async function placeOf(filesDir: string, path: string, realFolder = () => realpath(filesDir)): Promise<string> {
  const real = await realpath(safeJoin(filesDir, path)).catch((error: NodeJS.ErrnoException) => {
    throw new StepError(error.code === 'ENOENT' ? 'not-found' : kindOf(error), `failed to read ${path}: ${messageOf(error)}`, {
      hint: 'run download again, with the same --workspace',
    });
  });
  if (real.startsWith((await realFolder()) + sep)) return real;
  throw new StepError('refused', `failed to read ${path}: it is a link that leads out of the model's folder`);
}

/**
 * Opens files of a model's folder to be sent. A symlink that leads out of the folder is never followed (`refused`); a file that is missing
 * (`not-found`) or has another size (`integrity`) is not sent.
 */
export function openFilesOf(filesDir: string): (file: Expected) => Promise<ByteSource> {
  // Asked once: the folder is locked, and its own folders do not move while it is read.
  const folders = new Map<string, Promise<string>>();
  const realFolder = (path: string): Promise<string> => {
    const real = folders.get(path) ?? (path === '.' ? realpath(filesDir) : placeOf(filesDir, path, () => realFolder('.')));
    folders.set(path, real);
    return real;
  };
  const calls = { names: new QuickCalls(), reads: new QuickCalls() };
  const plainFile = async (path: string) => await openPlain(calls.names, join(await realFolder(dirname(path)), basename(path)));
  const anyFile = async (path: string) => await openPlain(calls.names, await placeOf(filesDir, path, () => realFolder('.')));
  // Where it is no plain file the long way follows its links, or tells what is wrong.
  return async (file) => sourceOf(await plainFile(file.path).catch(() => anyFile(file.path)), file, calls);
}

async function openPlain(calls: QuickCalls, path: string): Promise<number> {
  // A pipe that nobody writes into would wait for its writer.
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  return await calls.call(
    () => openSync(path, flags),
    () => openLater(path, flags),
  );
}

async function sourceOf(fd: number, file: Expected, { names, reads }: Record<'names' | 'reads', QuickCalls>): Promise<ByteSource> {
  const { path, size } = file;
  // The number is another file's once it is closed: not before the last read is back, and only once.
  const reading = new Set<Promise<unknown>>();
  let closed: Promise<void> | undefined;
  const end = async () => {
    await Promise.allSettled(reading);
    await names.call(
      () => closeSync(fd),
      () => closeLater(fd),
    );
  };
  const whileOpen = async <T>(work: () => Promise<T>): Promise<T> => {
    if (closed !== undefined) throw new StepError('bug', `failed to read ${path}: it is closed`);
    const some = work();
    reading.add(some);
    return await some.finally(() => reading.delete(some));
  };
  try {
    // At once: what was just opened is known, and a turn of a thread costs more than the answer.
    checkSize(fstatSync(fd), { path, size });
  } catch (error) {
    await end();
    throw error;
  }
  return {
    async read(offset, into) {
      for (let done = 0; done < into.length; ) {
        const { bytesRead } = await whileOpen(() => readLater(fd, into, done, into.length - done, offset + done));
        if (bytesRead === 0) throw new StepError('integrity', `failed to read ${path}: it became shorter while it was read`);
        done += bytesRead;
      }
    },
    async readWhole(into, wants): Promise<Digests | undefined> {
      // The thread has one read at a time: a volume that is not quick is better asked for several.
      if (!reads.areQuick) return undefined;
      const read = await whileOpen(() => readDigests(file, { fd, into }, wants));
      if (read) reads.took(read.readMs - size / quickBytesPerMs);
      return read?.digests;
    },
    async close() {
      closed ??= end();
      await closed;
    },
  };
}

function checkSize(info: Stats, { path, size }: Pick<Expected, 'path' | 'size'>): void {
  if (info.isFile() && info.size === size) return;
  throw new StepError('integrity', `failed to read ${path}: it has ${info.size} bytes, the manifest says ${size}`, {
    hint: 'run download again with --verify, with the same --workspace',
  });
}
