/** A call that took longer (ms) was no answer out of memory, or the system had something else to do meanwhile. */
const slowMs = 1;
/** So many more slow calls than one in sixteen are a volume that is far, or a disk that must look. */
const mostSlow = 8;

/**
 * Calls of the file system that its caches answer in microseconds: made at once they cost less than the turn of a thread (10 instead of 80 us for an open,
 * measured on a virtual machine). A slow one holds up all else, so that calls are handed to threads for good once several were slow.
 */
export class QuickCalls {
  #slow = 0;

  /** What `now` gives or throws while calls are quick, then what `later` does. */
  async call<T>(now: () => T, later: () => Promise<T>): Promise<T> {
    if (!this.areQuick) return await later();
    const began = performance.now();
    try {
      return now();
    } finally {
      this.took(performance.now() - began);
    }
  }

  /** False once several were slow. */
  get areQuick(): boolean {
    return this.#slow < mostSlow;
  }

  /** One took so long (ms). */
  took(ms: number): void {
    this.#slow += ms < slowMs ? -Math.min(this.#slow, 1 / 16) : 1;
  }
}
