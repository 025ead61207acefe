/** A clock that stands until everybody waits. */
export class FakeClock {
  /** ms */
  time = 0;
  readonly #due: { at: number; go: () => void }[] = [];

  now(): number {
    return this.time;
  }

  at(due: number, go: () => void): void {
    this.#due.push({ at: Math.max(due, this.time), go });
  }

  sleep(ms: number): Promise<void> {
    return new Promise((go) => this.at(this.time + ms, go));
  }

  /** Goes from one moment that somebody waits for to the next until `done` is settled. Throws when nobody would ever go on. */
  async runUntil(done: Promise<unknown>): Promise<void> {
    let over = false;
    const end = () => {
      over = true;
    };
    void done.then(end, end);
    for (;;) {
      for (let rounds = 0; rounds < 5; rounds += 1) await new Promise((go) => setImmediate(go));
      if (over) return;
      this.#due.sort((a, b) => a.at - b.at);
      const next = this.#due[0];
      if (next === undefined) throw new Error('everybody waits for ever');
      this.time = next.at;
      while (this.#due[0]?.at === next.at) this.#due.shift()?.go();
    }
  }
}
