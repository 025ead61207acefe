import { type Bytes, Cursor, EndOfBytes } from './bytes.ts';

/** What a pickle would bring in when it is loaded. */
export interface PickleImports {
  /** `module name`, dots as they are: each once, in order of appearance. */
  imports: string[];
  /** Why not all of it is known: an import whose name is computed, or a stream too large to walk. */
  unknown: string | undefined;
  /** True when a stream ended with its STOP. */
  whole: boolean;
}

/** A file holds few streams behind each other: torch's old format has five. */
const maxStreams = 64;
/** Bytes of opcodes that are walked; strings and arrays are skipped and do not count. */
const maxWalked = 64 * 1024 ** 2;
const maxLine = 1024 ** 2;
/** Longer strings name no module. */
const maxName = 1024;

/** What stands on the unpickler's stack, as far as names can be made of it: a string, a mark, or anything else. */
type Slot = string | typeof mark | typeof other;
const mark: unique symbol = Symbol('mark');
const other: unique symbol = Symbol('other');

/** The unpickler would raise here, and run nothing more. */
class Broken extends Error {}

/**
 * Walks the pickles from `from` on, without running anything. What follows the first invalid opcode is never run by Python either, but what
 * stands before it is: imports of a broken stream count. (Opcodes: CPython, Lib/pickletools.py.)
 */
export async function pickleImports(bytes: Bytes, from = 0): Promise<PickleImports> {
  const found = new Set<string>();
  const cursor = new Cursor(bytes, from);
  let whole = false;
  try {
    for (let streams = 0; !cursor.atEnd; streams += 1) {
      if (streams === maxStreams) return { imports: [...found], unknown: `more than ${maxStreams} pickles in a row`, whole };
      const unknown = await new Walk(cursor, found).run();
      if (unknown !== undefined) return { imports: [...found], unknown, whole };
      whole = true;
    }
  } catch (error) {
    if (!(error instanceof Broken) && !(error instanceof EndOfBytes)) throw error;
  }
  return { imports: [...found], unknown: undefined, whole };
}

/** One stream, up to its STOP. */
class Walk {
  readonly #cursor: Cursor;
  readonly #found: Set<string>;
  readonly #stack: Slot[] = [];
  readonly #memo = new Map<number, Slot>();
  #unknown: string | undefined;

  constructor(cursor: Cursor, found: Set<string>) {
    this.#cursor = cursor;
    this.#found = found;
  }

  /** Why not all is known; undefined when it is. Throws Broken and EndOfBytes where the unpickler would stop. */
  async run(): Promise<string | undefined> {
    for (;;) {
      if (this.#cursor.fetched > maxWalked) return `over ${maxWalked} bytes of opcodes`;
      const opcode = (await this.#cursor.take(1))[0] as number;
      if (opcode === 0x2e) {
        this.#pop();
        return this.#unknown;
      }
      await this.#step(opcode);
      if (this.#unknown !== undefined) return this.#unknown;
    }
  }

  async #step(opcode: number): Promise<void> {
    const simple = effects[opcode];
    if (simple !== undefined) {
      const [skip, pops, pushes] = simple;
      if (skip > 0) await this.#cursor.skip(skip);
      for (let count = 0; count < pops; count += 1) this.#pop();
      if (pushes > 0) this.#stack.push(other);
      return;
    }
    switch (opcode) {
      case op.MARK:
        this.#stack.push(mark);
        return;
      case op.POP:
        if (this.#stack.pop() === undefined) throw new Broken();
        return;
      case op.POP_MARK:
      case op.APPENDS:
      case op.SETITEMS:
      case op.ADDITEMS:
        this.#popMark();
        if (opcode !== op.POP_MARK) this.#top();
        return;
      case op.LIST:
      case op.TUPLE:
      case op.DICT:
      case op.OBJ:
      case op.FROZENSET:
        this.#popMark();
        this.#stack.push(other);
        return;
      case op.DUP:
        this.#stack.push(this.#top());
        return;
      case op.FLOAT:
      case op.INT:
      case op.LONG:
      case op.PERSID:
        await this.#line();
        this.#stack.push(other);
        return;
      case op.STRING:
        this.#stack.push(plain((await this.#line()).trim().replace(/^(['"])(.*)\1$/s, '$2')));
        return;
      case op.UNICODE:
        this.#stack.push(plain(await this.#line()));
        return;
      case op.LONG1:
      case op.SHORT_BINBYTES:
        await this.#payload(1, false);
        return;
      case op.LONG4:
      case op.BINBYTES:
        await this.#payload(4, false);
        return;
      case op.BINBYTES8:
      case op.BYTEARRAY8:
        await this.#payload(8, false);
        return;
      // Python 2 wrote module names as byte strings, and protocols before 3 are read as text.
      case op.SHORT_BINSTRING:
      case op.SHORT_BINUNICODE:
        await this.#payload(1, true);
        return;
      case op.BINSTRING:
      case op.BINUNICODE:
        await this.#payload(4, true);
        return;
      case op.BINUNICODE8:
        await this.#payload(8, true);
        return;
      case op.GET:
        this.#get(Number(await this.#line()));
        return;
      case op.BINGET:
        this.#get(await this.#number(1));
        return;
      case op.LONG_BINGET:
        this.#get(await this.#number(4));
        return;
      case op.PUT:
        this.#memo.set(Number(await this.#line()), this.#top());
        return;
      case op.BINPUT:
        this.#memo.set(await this.#number(1), this.#top());
        return;
      case op.LONG_BINPUT:
        this.#memo.set(await this.#number(4), this.#top());
        return;
      case op.MEMOIZE:
        this.#memo.set(this.#memo.size, this.#top());
        return;
      case op.GLOBAL:
      case op.INST:
        this.#import(await this.#line(), await this.#line());
        if (opcode === op.INST) this.#popMark();
        this.#stack.push(other);
        return;
      case op.STACK_GLOBAL: {
        const name = this.#pop();
        this.#import(this.#pop(), name);
        this.#stack.push(other);
        return;
      }
      case op.EXT1:
      case op.EXT2:
      case op.EXT4:
        this.#unknown = 'an import by a number of the extension registry';
        return;
      case op.PROTO:
        if ((await this.#number(1)) > 5) throw new Broken();
        return;
      default:
        throw new Broken();
    }
  }

  #import(module: Slot, name: Slot): void {
    if (typeof module !== 'string' || typeof name !== 'string') {
      this.#unknown = 'an import whose name is computed';
      return;
    }
    // Bytes that are no text name no module: Python raises.
    if (/[\p{C}\ufffd]/u.test(module + name)) throw new Broken();
    this.#found.add(`${module} ${name}`);
  }

  #pop(): Slot {
    const slot = this.#stack.pop();
    if (slot === undefined || slot === mark) throw new Broken();
    return slot;
  }

  #top(): Slot {
    const slot = this.#stack.at(-1);
    if (slot === undefined || slot === mark) throw new Broken();
    return slot;
  }

  #popMark(): void {
    const at = this.#stack.lastIndexOf(mark);
    if (at < 0) throw new Broken();
    this.#stack.length = at;
  }

  #get(index: number): void {
    const slot = this.#memo.get(index);
    if (slot === undefined) throw new Broken();
    this.#stack.push(slot);
  }

  async #line(): Promise<string> {
    const line = await this.#cursor.line(maxLine);
    if (line === undefined) throw new Broken();
    return line.toString('utf8').replace(/\r$/, '');
  }

  async #number(length: 1 | 4 | 8): Promise<number> {
    const bytes = await this.#cursor.take(length);
    return length === 8 ? Number(bytes.readBigUInt64LE()) : bytes.readUIntLE(0, length);
  }

  async #payload(lengthBytes: 1 | 4 | 8, text: boolean): Promise<void> {
    const length = await this.#number(lengthBytes);
    if (text && length <= maxName) this.#stack.push((await this.#cursor.take(length)).toString('utf8'));
    else {
      await this.#cursor.skip(length);
      this.#stack.push(other);
    }
  }
}

/** A string in which escapes are decoded by Python is not looked into: a name made of it counts as computed. */
function plain(text: string): Slot {
  return text.includes('\\') ? other : text;
}

const op = {
  MARK: 0x28,
  POP: 0x30,
  POP_MARK: 0x31,
  DUP: 0x32,
  FLOAT: 0x46,
  INT: 0x49,
  LONG: 0x4c,
  PERSID: 0x50,
  STRING: 0x53,
  BINSTRING: 0x54,
  SHORT_BINSTRING: 0x55,
  UNICODE: 0x56,
  BINUNICODE: 0x58,
  GLOBAL: 0x63,
  DICT: 0x64,
  APPENDS: 0x65,
  GET: 0x67,
  BINGET: 0x68,
  INST: 0x69,
  LONG_BINGET: 0x6a,
  LIST: 0x6c,
  OBJ: 0x6f,
  PUT: 0x70,
  BINPUT: 0x71,
  LONG_BINPUT: 0x72,
  TUPLE: 0x74,
  SETITEMS: 0x75,
  PROTO: 0x80,
  EXT1: 0x82,
  EXT2: 0x83,
  EXT4: 0x84,
  LONG1: 0x8a,
  LONG4: 0x8b,
  BINBYTES: 0x42,
  SHORT_BINBYTES: 0x43,
  SHORT_BINUNICODE: 0x8c,
  BINUNICODE8: 0x8d,
  BINBYTES8: 0x8e,
  ADDITEMS: 0x90,
  FROZENSET: 0x91,
  STACK_GLOBAL: 0x93,
  MEMOIZE: 0x94,
  BYTEARRAY8: 0x96,
};

/** Opcodes that only move the stack: bytes of argument to skip, values taken from the stack, values put on it. */
const effects: Record<number, readonly [skip: number, pops: number, pushes: number]> = {
  71: [8, 0, 1], // BINFLOAT
  74: [4, 0, 1], // BININT
  75: [1, 0, 1], // BININT1
  77: [2, 0, 1], // BININT2
  78: [0, 0, 1], // NONE
  81: [0, 1, 1], // BINPERSID
  82: [0, 2, 1], // REDUCE
  93: [0, 0, 1], // EMPTY_LIST
  97: [0, 1, 0], // APPEND
  98: [0, 1, 0], // BUILD
  115: [0, 2, 0], // SETITEM
  125: [0, 0, 1], // EMPTY_DICT
  41: [0, 0, 1], // EMPTY_TUPLE
  129: [0, 2, 1], // NEWOBJ
  133: [0, 1, 1], // TUPLE1
  134: [0, 2, 1], // TUPLE2
  135: [0, 3, 1], // TUPLE3
  136: [0, 0, 1], // NEWTRUE
  137: [0, 0, 1], // NEWFALSE
  143: [0, 0, 1], // EMPTY_SET
  146: [0, 3, 1], // NEWOBJ_EX
  149: [8, 0, 0], // FRAME
  151: [0, 0, 1], // NEXT_BUFFER
  152: [0, 1, 1], // READONLY_BUFFER
};
