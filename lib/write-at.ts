/** What is written to: a FileHandle. */
interface Writable {
  write(bytes: Uint8Array, from: number, length: number, position: number): Promise<{ bytesWritten: number }>;
}

/**
 * Writes all of the bytes from `position` on, at most so many at once: a system may take fewer than it is given, and does where a disk is nearly full
 * (write(2)). Throws the system's error.
 */
export async function writeAt(file: Writable, bytes: Uint8Array, position: number, atOnce = bytes.length): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, Math.min(bytes.length - done, atOnce), position + done);
    done += bytesWritten;
  }
}
