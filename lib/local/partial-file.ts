import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';

/** A file that is on its way. It is only ever appended to, in order: so its length alone tells a rerun where to go on, whatever ended us. */
export class PartialFile {
  readonly #file: FileHandle;
  #written: Promise<void> = Promise.resolve();

  private constructor(file: FileHandle) {
    this.#file = file;
  }

  /** Opens or makes it, in a folder that is there, and keeps its first `length` bytes. A symlink is not followed. Throws the system's error. */
  static async open(path: string, length: number): Promise<PartialFile> {
    const emptied = length === 0 ? constants.O_TRUNC : 0;
    const file = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW | emptied, 0o666);
    if (length > 0) await file.truncate(length);
    return new PartialFile(file);
  }

  /** Writes behind what was given before; after a failure nothing is written any more, so that no hole comes about. */
  append(bytes: Buffer, offset: number): Promise<void> {
    this.#written = this.#written.then(async () => {
      for (let done = 0; done < bytes.length; ) {
        const { bytesWritten } = await this.#file.write(bytes, done, bytes.length - done, offset + done);
        done += bytesWritten;
      }
    });
    return this.#written;
  }

  /** Waits until the disk has it: a write that was taken may fail later, and only this hears of it. Throws the system's error. */
  async flush(): Promise<void> {
    await this.#file.datasync();
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}
