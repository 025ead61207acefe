/** A JSON value whose objects are Maps: a key such as `__proto__` or `7` is a key like any other, in the order in which it stands. */
export type Json = string | number | boolean | null | Json[] | JsonObject;
export type JsonObject = Map<string, Json>;

export interface JsonOptions {
  /** Numbers are whole and not negative, written without point or exponent, and exact (at most 2^53 - 1). */
  integers?: boolean;
  /** NaN, Infinity and -Infinity are numbers, as Python's json writes and reads them. */
  python?: boolean;
}

/** Why bytes are no JSON that is safe to rely on. */
export class JsonFault extends Error {
  override readonly name = 'JsonFault';
}

const maxDepth = 64;
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const escapes: Record<string, string> = { '"': '"', '\\': '\\', '/': '/', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' };

/**
 * Reads JSON (RFC 8259) from UTF-8 and refuses what JSON.parse lets pass: a key that occurs twice, and bytes that are no UTF-8.
 * Takes memory in proportion to the bytes, whatever they hold. Throws JsonFault.
 */
export function parseStrictJson(bytes: Uint8Array, options: JsonOptions = {}): Json {
  const reader = new Reader(bytes, options);
  const value = reader.value(0);
  reader.space();
  if (reader.at < bytes.length) reader.fail('something stands behind the value');
  return value;
}

class Reader {
  at = 0;
  readonly #bytes: Uint8Array;
  readonly #options: JsonOptions;

  constructor(bytes: Uint8Array, options: JsonOptions) {
    this.#bytes = bytes;
    this.#options = options;
  }

  fail(why: string): never {
    throw new JsonFault(`${why} at byte ${this.at}`);
  }

  space(): void {
    for (let byte = this.#bytes[this.at]; byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09; byte = this.#bytes[this.at]) {
      this.at += 1;
    }
  }

  value(depth: number): Json {
    if (depth > maxDepth) this.fail('it is nested too deeply');
    this.space();
    switch (this.#bytes[this.at]) {
      case 0x7b:
        return this.#object(depth);
      case 0x5b:
        return this.#array(depth);
      case 0x22:
        return this.#string();
      default:
        return this.#word();
    }
  }

  #object(depth: number): JsonObject {
    const found: JsonObject = new Map();
    this.at += 1;
    if (this.#takes(0x7d)) return found;
    do {
      this.space();
      if (this.#bytes[this.at] !== 0x22) this.fail('a key is missing');
      const key = this.#string();
      if (found.has(key)) this.fail(`key ${JSON.stringify(key.slice(0, 200))} occurs twice`);
      if (!this.#takes(0x3a)) this.fail('a colon is missing');
      found.set(key, this.value(depth + 1));
    } while (this.#takes(0x2c));
    if (!this.#takes(0x7d)) this.fail('an object does not end');
    return found;
  }

  #array(depth: number): Json[] {
    const found: Json[] = [];
    this.at += 1;
    if (this.#takes(0x5d)) return found;
    do found.push(this.value(depth + 1));
    while (this.#takes(0x2c));
    if (!this.#takes(0x5d)) this.fail('an array does not end');
    return found;
  }

  /** Skips space, and the byte when it is the next. */
  #takes(byte: number): boolean {
    this.space();
    if (this.#bytes[this.at] !== byte) return false;
    this.at += 1;
    return true;
  }

  #string(): string {
    this.at += 1;
    const start = this.at;
    let escaped = false;
    for (;;) {
      const byte = this.#bytes[this.at];
      if (byte === undefined) this.fail('a string does not end');
      if (byte < 0x20) this.fail('a string has a control character');
      if (byte === 0x22) break;
      if (byte === 0x5c) {
        escaped = true;
        this.at += 1;
      }
      this.at += 1;
    }
    const text = this.#decode(start, this.at);
    this.at += 1;
    if (!escaped) return text;
    const plain = text.replace(/\\(u[0-9a-fA-F]{4}|[\s\S]?)/g, (_, code: string) => {
      if (code.length === 5) return String.fromCharCode(Number.parseInt(code.slice(1), 16));
      return escapes[code] ?? this.fail('a string has an escape that JSON does not know');
    });
    if (!plain.isWellFormed()) this.fail('a string has half a character');
    return plain;
  }

  #decode(start: number, end: number): string {
    try {
      return decoder.decode(this.#bytes.subarray(start, end));
    } catch {
      return this.fail('a string is no UTF-8');
    }
  }

  #word(): Json {
    const start = this.at;
    for (let byte = this.#bytes[this.at]; byte !== undefined && isWordByte(byte); byte = this.#bytes[this.at]) {
      this.at += 1;
      if (this.at - start > 400) this.fail('a number is too long');
    }
    const word = this.#decode(start, this.at);
    if (word === 'true' || word === 'false') return word === 'true';
    if (word === 'null') return null;
    if (this.#options.python && /^(NaN|-?Infinity)$/.test(word)) return Number(word);
    const { integers } = this.#options;
    if (!(integers ? /^(0|[1-9]\d*)$/ : /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/).test(word)) {
      this.at = start;
      this.fail(word === '' ? 'a value is missing' : `${JSON.stringify(word.slice(0, 40))} is no ${integers ? 'whole number' : 'value'}`);
    }
    const value = Number(word);
    if (integers && !Number.isSafeInteger(value)) this.fail(`${word.slice(0, 40)} is too large`);
    return value;
  }
}

/** Letters, digits and `+-.`: what numbers and words are made of. */
function isWordByte(byte: number): boolean {
  return (
    (byte >= 0x30 && byte <= 0x39) || (byte >= 0x41 && byte <= 0x5a) || (byte >= 0x61 && byte <= 0x7a) || [0x2b, 0x2d, 0x2e].includes(byte)
  );
}
