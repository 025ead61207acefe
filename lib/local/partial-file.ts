import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { writeAt } from '../write-at.ts';

/** Larger writes make Linux take page cache by pieces of 2 MiB, which a virtual machine that gives free memory back must fetch again (README, "Design"). */
const writeBytes = 1024 ** 2;
/** So much is left to the disk before it is told to write, while more is coming: the flush at the end finds little to do. */
const flushBytes = 64 * 1024 ** 2;
/** A flush may take long on a slow disk, and holds one of the four threads that all file calls share. */
const flushesAtOnce = 2;
let flushes = 0;

/** A file that is on its way. It is only ever appended to, in order: so its length alone tells a rerun where to go on, whatever ended us. */
export class PartialFile {
  readonly #file: FileHandle;
  #written: Promise<void> = Promise.resolve();
  #flushed: Promise<void> = Promise.resolve();
  #lost = false;
  /** Bytes since the last flush was begun. */
  #unflushed = 0;

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
      if (this.#lost) await this.#flushed;
      await writeAt(this.#file, bytes, offset, writeBytes);
      this.#unflushed += bytes.length;
      if (this.#unflushed >= flushBytes) this.#flushMeanwhile();
    });
    return this.#written;
  }

  /** Waits until the disk has it: a write that was taken may fail later, and only this hears of it. Throws the system's error. */
  async flush(): Promise<void> {
    await this.#flushed;
    await this.#file.datasync();
  }

  async close(): Promise<void> {
    await this.#flushed.catch(() => {});
    await this.#file.close();
  }

  /** The system tells a failure once: what one of these hears ends the writing. */
  #flushMeanwhile(): void {
    if (flushes >= flushesAtOnce) return;
    flushes += 1;
    this.#unflushed = 0;
    this.#flushed = this.#flushed
      .then(() => this.#file.datasync())
      .finally(() => {
        flushes -= 1;
      });
    this.#flushed.catch(() => {
      this.#lost = true;
    });
  }
}
