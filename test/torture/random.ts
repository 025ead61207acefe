import { randomFrom } from '../fakes/content.ts';

/** Choices that the same seed makes again. */
export class Random {
  readonly #next: () => number;

  constructor(seed: number) {
    this.#next = randomFrom(seed);
  }

  /** A whole number from `low` up to and with `high`. */
  between(low: number, high: number): number {
    return low + Math.floor(this.#next() * (high - low + 1));
  }

  chance(share: number): boolean {
    return this.#next() < share;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.between(0, from.length - 1)] as T;
  }

  shuffled<T>(from: readonly T[]): T[] {
    const rest = [...from];
    return from.map(() => rest.splice(this.between(0, rest.length - 1), 1)[0] as T);
  }

  /** Another row of choices, for work that runs beside this one. */
  branch(): Random {
    return new Random(this.between(0, 2 ** 31));
  }
}
