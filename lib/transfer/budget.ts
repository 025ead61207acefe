/** Hands out a fixed amount (connections, bytes) in the order it is asked for. */
export class Budget {
  #free: number;
  readonly total: number;
  readonly #waiting: { amount: number; go: () => void }[] = [];

  constructor(total: number) {
    this.total = total;
    this.#free = total;
  }

  /** Waits for that much; more than there is at all counts as all of it. Returns what gives it back, once. */
  async take(wanted: number, signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    const amount = Math.min(wanted, this.total);
    if (this.#waiting.length > 0 || this.#free < amount) {
      await new Promise<void>((resolve, reject) => {
        const entry = {
          amount,
          go: () => {
            signal.removeEventListener('abort', onAbort);
            resolve();
          },
        };
        const onAbort = () => {
          this.#waiting.splice(this.#waiting.indexOf(entry), 1);
          reject(signal.reason);
          this.#serve();
        };
        this.#waiting.push(entry);
        signal.addEventListener('abort', onAbort, { once: true });
      });
    } else this.#free -= amount;
    let given = true;
    return () => {
      if (!given) return;
      given = false;
      this.#free += amount;
      this.#serve();
    };
  }

  #serve(): void {
    for (let next = this.#waiting[0]; next && this.#free >= next.amount; next = this.#waiting[0]) {
      this.#waiting.shift();
      this.#free -= next.amount;
      next.go();
    }
  }
}
