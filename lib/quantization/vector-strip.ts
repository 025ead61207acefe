import { codeValues } from './codes.ts';
import type { ErrorSums } from './error-sums.ts';
import type { FloatType, Raw } from './floats.ts';
import { bitsOf, type Scheme } from './schemes.ts';
import type { Strip } from './strip.ts';
import { together, vectorModule } from './vector-code.ts';

/** What is used of the engine's WebAssembly: the compiler is told of it only where it is told of browsers. */
declare const WebAssembly: {
  Memory: new (size: { initial: number }) => { readonly buffer: ArrayBuffer; grow(pages: number): void };
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object, imports: object) => { readonly exports: unknown };
  validate(bytes: Uint8Array): boolean;
};

interface Exports {
  measure(from: number, groups: number, size: number, into: number): void;
  encode(from: number, groups: number, size: number, divisors: number, zeros: number, into: number): void;
  addErrors(from: number, groups: number, size: number, divisors: number, zeros: number, codes: number, values: number, into: number): void;
}

const pageBytes = 65_536;

/** What lies first in memory: two sums, and what each code stands for. */
const valuesAt = 16;
const weightsAt = valuesAt + 256 * 4;

/**
 * Vectors of 128 bits: for bfloat16, in groups of a multiple of 16. Weights are copied into its own memory and codes out of it, a few rows at a time, so
 * that all of it stays in the nearer caches.
 */
export class VectorStrip implements Strip {
  found = new Int32Array(0);
  divisors = new Float32Array(0);
  zeros = new Float32Array(0);
  readonly #memory = new WebAssembly.Memory({ initial: 1 });
  readonly #exports: Exports;
  readonly #bits: 4 | 8;
  readonly #perGroup: 1 | 2;
  #weights = new Int16Array(0);
  #codes = new Uint8Array(0);

  private constructor(scheme: Scheme, module: Uint8Array) {
    this.#bits = bitsOf(scheme);
    this.#perGroup = scheme.symmetric ? 1 : 2;
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module), { env: { memory: this.#memory } });
    this.#exports = exports as Exports;
    new Float32Array(this.#memory.buffer, valuesAt).set(codeValues(scheme));
  }

  /** Undefined where the machine has no such vectors. */
  static of(scheme: Scheme, round: FloatType | undefined): VectorStrip | undefined {
    const module = vectorModule(scheme, round);
    return typeof WebAssembly === 'object' && WebAssembly.validate(module) ? new VectorStrip(scheme, module) : undefined;
  }

  static takes(type: FloatType, cols: number, groupCols: number): boolean {
    return type === 'BF16' && cols % together === 0 && groupCols % together === 0;
  }

  reserve(weights: number, groups: number): void {
    if (weights <= this.#weights.length && groups <= this.divisors.length) return;
    const room = Math.ceil(Math.max(weights, this.#weights.length) / 8) * 8;
    const count = Math.max(groups, this.divisors.length);
    const [codesAt, divisorsAt] = [weightsAt + room * 2, weightsAt + room * 3];
    const missing = Math.ceil((divisorsAt + count * 16) / pageBytes) - this.#memory.buffer.byteLength / pageBytes;
    if (missing > 0) this.#memory.grow(missing);
    const { buffer } = this.#memory;
    this.#weights = new Int16Array(buffer, weightsAt, room);
    this.#codes = new Uint8Array(buffer, codesAt, room);
    this.divisors = new Float32Array(buffer, divisorsAt, count);
    this.zeros = new Float32Array(buffer, divisorsAt + count * 4, count);
    this.found = new Int32Array(buffer, divisorsAt + count * 8, 2 * count);
  }

  load(weights: Raw, from: number, count: number): void {
    this.#weights.set(weights.subarray(from, from + count));
  }

  measure(from: number, groups: number, size: number, group: number): void {
    if (groups === 0) return;
    this.#exports.measure(weightsAt + 2 * from, groups, size, this.found.byteOffset + 4 * this.#perGroup * group);
  }

  encode(from: number, groups: number, size: number, group: number, into: Uint8Array, to: number, sums?: ErrorSums): void {
    if (groups === 0) return;
    const codes = this.#codes;
    const [start, length] = [(from * this.#bits) >> 3, (groups * size * this.#bits) >> 3];
    const [divisors, zeros] = [this.divisors.byteOffset + 4 * group, this.zeros.byteOffset + 4 * group];
    this.#exports.encode(weightsAt + 2 * from, groups, size, divisors, zeros, codes.byteOffset + start);
    into.set(codes.subarray(start, start + length), to);
    if (!sums) return;
    this.#exports.addErrors(weightsAt + 2 * from, groups, size, divisors, zeros, codes.byteOffset + start, valuesAt, 0);
    const [error, signal] = new Float64Array(this.#memory.buffer, 0, 2);
    sums.error += error!;
    sums.signal += signal!;
  }
}
