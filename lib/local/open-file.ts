import { constants, fstatSync } from 'node:fs';
import { type FileHandle, open, realpath } from 'node:fs/promises';
import { basename, dirname, join, sep } from 'node:path';
import { kindOf, messageOf, StepError } from '../errors.ts';
import type { Expected } from '../integrity.ts';
import type { ByteSource } from '../publish/send.ts';
import { safeJoin } from '../workspace.ts';

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
  const plainFile = async (path: string) => await openPlain(join(await realFolder(dirname(path)), basename(path)));
  const anyFile = async (path: string) => await openPlain(await placeOf(filesDir, path, () => realFolder('.')));
  // Where it is no plain file the long way follows its links, or tells what is wrong.
  return async (file) => sourceOf(await plainFile(file.path).catch(() => anyFile(file.path)), file);
}

async function openPlain(path: string): Promise<FileHandle> {
  return await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
}

async function sourceOf(file: FileHandle, { path, size }: Expected): Promise<ByteSource> {
  // At once: what was just opened is known, and a turn of a thread costs more than the answer.
  const info = fstatSync(file.fd);
  if (!info.isFile() || info.size !== size) {
    await file.close();
    throw new StepError('integrity', `failed to read ${path}: it has ${info.size} bytes, the manifest says ${size}`, {
      hint: 'run download again with --verify, with the same --workspace',
    });
  }
  return {
    async read(offset, into) {
      let done = 0;
      while (done < into.length) {
        const { bytesRead } = await file.read(into, done, into.length - done, offset + done);
        if (bytesRead === 0) throw new StepError('integrity', `failed to read ${path}: it became shorter while it was read`);
        done += bytesRead;
      }
    },
    close: () => file.close(),
  };
}
