import { type Bytes, Cursor, EndOfBytes } from './bytes.ts';
import { effects, op } from './pickle-opcodes.ts';

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
 * stands before it is: imports of a broken stream count.
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
      if (opcode === op.STOP) {
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
