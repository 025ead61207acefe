/**
 * WebAssembly, put together instruction by instruction: just what loops over weights need. Numbers of instructions and the binary form are
 * those of https://webassembly.github.io/spec/core/binary/.
 */

/** Instructions, and bytes that are part of them, in order. An expression is one that leaves a value behind. */
export type Code = readonly (number | Code)[];

/** A variable of a function. */
export interface Local {
  get: Code;
  set: (value: Code) => Code;
}

const types = { i32: 0x7f, f64: 0x7c, v128: 0x7b } as const;
type Type = keyof typeof types;

/** LEB128 of a signed integer; with numbers from 0 to 63 it is the unsigned form too. */
function signed(value: number): number[] {
  const low = value & 0x7f;
  const rest = value >> 7;
  return (rest === 0 && low < 0x40) || (rest === -1 && low >= 0x40) ? [low] : [low | 0x80, ...signed(rest)];
}

function unsigned(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...unsigned(value >>> 7)];
}

const list = (items: readonly Code[]): Code => [unsigned(items.length), ...items];
const sized = (code: Code): Code => {
  const bytes = flat(code);
  return [unsigned(bytes.length), bytes];
};
const name = (text: string): Code => list([...Buffer.from(text)].map((byte) => [byte]));
const flat = (code: Code): number[] => code.flatMap((each) => (typeof each === 'number' ? [each] : flat(each)));

const plain = (opcode: number) => (a: Code, b: Code) => [a, b, opcode] as Code;
const vector = (opcode: number, ...inside: Code): Code => [0xfd, unsigned(opcode), ...inside];
const binary = (opcode: number) => (a: Code, b: Code) => [a, b, vector(opcode)] as Code;
const shift = (opcode: number) => (value: Code, bits: number) => [value, i32.const(bits), vector(opcode)] as Code;
/** No promise of alignment, then how far from the address. */
const place = (offset: number): Code => [0, unsigned(offset)];

export const i32 = {
  const: (value: number): Code => [0x41, signed(value)],
  add: plain(0x6a),
  sub: plain(0x6b),
  and: plain(0x71),
  shl: plain(0x74),
  shrU: plain(0x76),
  load8U: (address: Code, offset = 0): Code => [address, 0x2d, place(offset)],
  load16U: (address: Code, offset = 0): Code => [address, 0x2f, place(offset)],
  store: (address: Code, value: Code, offset = 0): Code => [address, value, 0x36, place(offset)],
};

export const f64 = {
  add: plain(0xa0),
  sub: plain(0xa1),
  mul: plain(0xa2),
  /** A float32 that lies there, or that has the bits of an integer. */
  loadF32: (address: Code): Code => [address, 0x2a, place(0), 0xbb],
  ofF32Bits: (bits: Code): Code => [bits, 0xbe, 0xbb],
  store: (address: Code, value: Code, offset = 0): Code => [address, value, 0x39, place(offset)],
};

export const v128 = {
  /** Four times the same 32 bits. */
  const: (bits: number): Code => vector(0x0c, new Array(4).fill([bits & 0xff, (bits >> 8) & 0xff, (bits >> 16) & 0xff, bits >>> 24])),
  load: (address: Code, offset = 0): Code => [address, vector(0x00, place(offset))],
  /** Four times the 32 bits that lie there. */
  load32Splat: (address: Code): Code => [address, vector(0x09, place(0))],
  store: (address: Code, value: Code): Code => [address, value, vector(0x0b, place(0))],
  storeLow64: (address: Code, value: Code): Code => [address, value, vector(0x5b, place(0), 0)],
  and: binary(0x4e),
  or: binary(0x50),
  xor: binary(0x51),
  /** The bytes of a vector in another order. */
  shuffle: (value: Code, bytes: readonly number[]): Code => [value, value, vector(0x0d, [...bytes])],
};

export const i8x16 = { narrowI16x8S: binary(0x65), narrowI16x8U: binary(0x66) };
export const i16x8 = {
  firstLane: (value: Code): Code => [value, vector(0x19, 0)],
  narrowI32x4U: binary(0x86),
  shrS: shift(0x8c),
  maxS: binary(0x98),
};
export const i32x4 = {
  add: binary(0xae),
  sub: binary(0xb1),
  gtS: binary(0x3b),
  maxS: binary(0xb8),
  shl: shift(0xab),
  shrU: shift(0xad),
};
export const f32x4 = {
  add: binary(0xe4),
  div: binary(0xe7),
  /** The smaller and the larger one, where none is NaN. */
  min: binary(0xea),
  max: binary(0xeb),
};

/** A function with parameters of 32 bits and no result, written from its first instruction to its last. */
export class Func<Param extends string = string> {
  readonly name: string;
  readonly params: Record<Param, Local>;
  readonly #count: number;
  readonly #locals: Type[] = [];
  #body: Code[] = [];

  constructor(name: string, params: readonly Param[]) {
    this.name = name;
    this.#count = params.length;
    this.params = Object.fromEntries(params.map((param, index) => [param, localAt(index)])) as Record<Param, Local>;
  }

  local(type: Type): Local {
    this.#locals.push(type);
    return localAt(this.#count + this.#locals.length - 1);
  }

  do(...code: Code[]): void {
    this.#body.push(...code);
  }

  /** Computes a vector once; returns how to have it again. */
  keep(value: Code): Code {
    const local = this.local('v128');
    this.do(local.set(value));
    return local.get;
  }

  /** Does what `body` writes until `left`, at first above 0, has come down to 0 by steps of that size. */
  repeat(left: Local, step: number, body: () => void): void {
    const before = this.#body;
    this.#body = [];
    body();
    this.do(left.set(i32.sub(left.get, i32.const(step))), [left.get, 0x0d, 0]);
    // A loop without a value; the branch above, if not zero, goes to its beginning.
    before.push([0x03, 0x40, ...this.#body, 0x0b]);
    this.#body = before;
  }

  get type(): Code {
    return [0x60, list(new Array(this.#count).fill([types.i32])), list([])];
  }

  get code(): Code {
    return sized([list(this.#locals.map((type) => [1, types[type]])), ...this.#body, 0x0b]);
  }
}

function localAt(index: number): Local {
  return { get: [0x20, unsigned(index)], set: (value) => [value, 0x21, unsigned(index)] };
}

/** The bytes of a module that takes its memory as `env.memory` and exports those functions. */
export function moduleOf(functions: readonly Func[]): Uint8Array {
  const section = (id: number, items: readonly Code[]): Code => [id, sized(list(items))];
  const exported = functions.map((each, index) => [name(each.name), 0, unsigned(index)] as Code);
  const code = [
    [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    section(
      1,
      functions.map((each) => each.type),
    ),
    section(2, [[name('env'), name('memory'), 2, 0, unsigned(1)]]),
    section(
      3,
      functions.map((_, index) => unsigned(index)),
    ),
    section(7, exported),
    section(
      10,
      functions.map((each) => each.code),
    ),
  ];
  return Uint8Array.from(flat(code));
}
