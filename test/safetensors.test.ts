import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { kindOf } from '../lib/errors.ts';
import { type Header, parseHeader, readHeader } from '../lib/safetensors/header.ts';
import { layOut, type NewTensor } from '../lib/safetensors/layout.ts';
import { parseStrictJson } from '../lib/safetensors/strict-json.ts';
import { indexBytes, parseIndex } from '../lib/safetensors/weight-index.ts';

const json = (text: string) => new TextEncoder().encode(text);
const entry = (dtype: string, shape: string, from: number, to: number) =>
  `{"dtype":"${dtype}","shape":${shape},"data_offsets":[${from},${to}]}`;
const good = `{"__metadata__":{"format":"pt"},"a":${entry('BF16', '[2,3]', 0, 12)},"b":${entry('F32', '[]', 12, 16)}}`;

function parse(text: string, dataBytes = 16): Header {
  const bytes = json(text);
  return parseHeader(bytes, 8 + bytes.length + dataBytes, 'm.safetensors');
}

describe('a header', () => {
  test('gives tensors in the order of their bytes, counted from the start of the file', () => {
    const swapped = `{"b":${entry('F32', '[]', 12, 16)},"a":${entry('BF16', '[2,3]', 0, 12)}}   `;
    const { tensors, dataOffset } = parse(swapped);
    expect(dataOffset).toBe(8 + swapped.length);
    expect(tensors).toEqual([
      { name: 'a', dtype: 'BF16', shape: [2, 3], offset: dataOffset, size: 12 },
      { name: 'b', dtype: 'F32', shape: [], offset: dataOffset + 12, size: 4 },
    ]);
    expect(parse(good).metadata).toEqual(new Map([['format', 'pt']]));
  });

  test('takes tensors without elements, in between and at the end', () => {
    const text = `{"a":${entry('BF16', '[2]', 0, 4)},"none":${entry('F32', '[0,7]', 4, 4)},"b":${entry('U8', '[1]', 4, 5)},"end":${entry('I64', '[0]', 5, 5)}}`;
    expect(parse(text, 5).tensors.map(({ name }) => name)).toEqual(['a', 'none', 'b', 'end']);
  });

  test('keeps names that objects have a meaning for', () => {
    const text = `{"__proto__":${entry('U8', '[1]', 0, 1)},"constructor":${entry('U8', '[1]', 1, 2)},"7":${entry('U8', '[1]', 2, 3)},"\\u00e9":${entry('U8', '[1]', 3, 4)}}`;
    expect(parse(text, 4).tensors.map(({ name }) => name)).toEqual(['__proto__', 'constructor', '7', 'é']);
  });

  const bad: [what: string, text: string, dataBytes?: number][] = [
    ['no brace', ` ${good}`],
    ['an array', '[]', 0],
    ['cut text', good.slice(0, -1)],
    ['text behind it', `${good}x`],
    ['other padding than spaces', `${good}\n`],
    ['a name twice', `{"a":${entry('U8', '[1]', 0, 1)},"a":${entry('U8', '[1]', 1, 2)}}`, 2],
    ['a name twice, once escaped', `{"a":${entry('U8', '[1]', 0, 1)},"\\u0061":${entry('U8', '[1]', 1, 2)}}`, 2],
    ['a field twice', '{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1],
    ['an unknown field', '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}}', 1],
    ['an unknown dtype', `{"a":${entry('BF17', '[1]', 0, 1)}}`, 1],
    ['a dtype that objects have', `{"a":${entry('constructor', '[1]', 0, 1)}}`, 1],
    ['a hole at the start', `{"a":${entry('U8', '[1]', 1, 2)}}`, 2],
    ['a hole', `{"a":${entry('U8', '[1]', 0, 1)},"b":${entry('U8', '[1]', 2, 3)}}`, 3],
    ['an overlap', `{"a":${entry('U8', '[2]', 0, 2)},"b":${entry('U8', '[2]', 1, 3)}}`, 3],
    ['bytes behind the last tensor', good, 17],
    ['too few bytes', good, 15],
    ['a shape of another size', `{"a":${entry('BF16', '[2,2]', 0, 12)}}`, 12],
    ['offsets that run backwards', `{"a":${entry('U8', '[1]', 1, 0)}}`, 1],
    ['three offsets', '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}}', 1],
    ['a huge shape', `{"a":${entry('U8', '[4294967296,4294967296]', 0, 1)}}`, 1],
    ['a shape whose product wraps around to its bytes', `{"a":${entry('U8', '[4294967296,4294967297]', 0, 4_294_967_296)}}`, 4_294_967_296],
    ['a negative dimension', `{"a":${entry('U8', '[-1]', 0, 1)}}`, 1],
    ['a dimension with a point', `{"a":${entry('U8', '[1.0]', 0, 1)}}`, 1],
    ['a dimension beyond 2^53', `{"a":${entry('U8', '[9007199254740993]', 0, 1)}}`, 1],
    ['a dimension that is text', `{"a":${entry('U8', '["1"]', 0, 1)}}`, 1],
    ['half a byte', `{"a":${entry('F4', '[3]', 0, 2)}}`, 2],
    ['metadata that is no text', '{"__metadata__":{"format":1}}', 0],
    ['deep nesting', `{"a":${'['.repeat(100_000)}`, 0],
    ['a control character', '{"a\nb":1}', 0],
    ['half a character', '{"\\ud800":1}', 0],
    ['an unknown escape', '{"\\x41":1}', 0],
  ];
  test.each(bad)('with %s is refused by the file that has it', (_, text, dataBytes = 16) => {
    expect(() => parse(text, dataBytes)).toThrow(
      expect.objectContaining({ kind: 'integrity', message: expect.stringContaining('m.safetensors') }),
    );
  });

  test('that is no UTF-8 is refused', () => {
    expect(() => parseHeader(Uint8Array.from([0x7b, 0x22, 0xc3, 0x28, 0x22, 0x7d]), 14, 'm.safetensors')).toThrow('UTF-8');
  });
});

describe('a file', () => {
  let dir: string;
  let path: string;
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'safetensors-'));
    path = join(dir, 'x.safetensors');
  });
  afterAll(async () => await rm(dir, { recursive: true }));

  async function read(bytes: Uint8Array): Promise<Header> {
    await writeFile(path, bytes);
    await using file = await open(path, 'r');
    return await readHeader(file, 'x.safetensors');
  }

  function withLength(length: bigint, rest: Uint8Array): Buffer {
    const head = Buffer.alloc(8);
    head.writeBigUInt64LE(length);
    return Buffer.concat([head, rest]);
  }

  test.each([0n, 1n, 100_000_001n, 2n ** 53n, 2n ** 64n - 1n])(
    'whose header would have %d bytes is refused, and no memory is taken for it',
    async (length) => {
      await expect(read(withLength(length, json('{')))).rejects.toMatchObject({ kind: 'integrity' });
    },
  );

  test('that ends before its header does is refused', async () => {
    await expect(read(Buffer.alloc(5))).rejects.toMatchObject({ kind: 'integrity' });
    await expect(read(withLength(20n, json('{"a":')))).rejects.toMatchObject({ kind: 'integrity' });
  });

  test('may be mutated in any way: it is read, or refused by its name, and nothing else', async () => {
    const tensors: NewTensor[] = [
      { name: 'model.layers.0.mlp.up_proj.weight', dtype: 'BF16', shape: [4, 6] },
      { name: 'b', dtype: 'F32', shape: [1] },
      { name: 'c', dtype: 'U8', shape: [3] },
      { name: 'empty', dtype: 'I64', shape: [0, 2] },
    ];
    const { head, size } = layOut(tensors, new Map([['format', 'pt']]));
    const original = Buffer.concat([head, Buffer.alloc(size - head.length, 1)]);
    const next = random(20_261_125);
    const pieces = [
      '"a":',
      '{',
      '}',
      '[',
      ']',
      ',',
      '0',
      '-1',
      '1e9',
      '99999999999999999999',
      '"__proto__":',
      '\\u0000',
      '"',
      '\\',
      'F64',
      '[0,0]',
      ' ',
      '\n',
      '\xff',
    ];
    let taken = 0;
    for (let round = 0; round < 6000; round += 1) {
      let bytes: Buffer = Buffer.from(original);
      for (let i = 0; i <= next() % 3; i += 1) {
        const at = next() % Math.min(bytes.length, next() % 2 ? head.length : bytes.length);
        const piece = Buffer.from(pieces[next() % pieces.length] ?? '', 'latin1');
        const cut = at + (next() % 12);
        const kind = next() % 5;
        if (kind === 0) bytes[at] = next() & 255;
        else if (kind === 1) bytes = Buffer.concat([bytes.subarray(0, at), piece, bytes.subarray(at)]);
        else if (kind === 2) bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(cut)]);
        else if (kind === 3) bytes = bytes.subarray(0, at);
        else bytes = Buffer.concat([bytes.subarray(0, cut), bytes.subarray(at)]);
        if (bytes.length === 0) break;
      }
      // Most changes of length are found by the length alone: half of the files get the right one.
      const header = bytes.subarray(8, Math.min(bytes.length, 8 + head.length - 8));
      if (next() % 2) bytes = withLength(BigInt(header.length), bytes.subarray(8));
      try {
        const length = bytes.length >= 8 ? bytes.readBigUInt64LE() : 0n;
        const found =
          round % 20 === 0 || bytes.length < 8 || length > bytes.length - 8
            ? await read(bytes)
            : parseHeader(bytes.subarray(8, 8 + Number(length)), bytes.length, 'x.safetensors');
        taken += 1;
        expect(found.tensors.reduce((end, { offset, size: each }) => (offset === end ? end + each : Number.NaN), found.dataOffset)).toBe(
          bytes.length,
        );
      } catch (error) {
        if (kindOf(error) !== 'integrity' || !(error as Error).message.includes('x.safetensors')) throw error;
      }
    }
    expect(taken).toBeGreaterThan(100);
  });
});

describe('a layout', () => {
  const tensors: NewTensor[] = [
    { name: 'scale', dtype: 'F32', shape: [1] },
    { name: 'codes', dtype: 'F8_E4M3', shape: [4, 6] },
    { name: 'odd', dtype: 'I8', shape: [3] },
    { name: 'half', dtype: 'BF16', shape: [5] },
    { name: 'shape', dtype: 'I64', shape: [2] },
  ];

  test('keeps the order, puts uneven sizes last by alignment, and every element at a multiple of its size', () => {
    const { head, size, tensors: placed, dataBytes } = layOut(tensors, new Map([['a"b', 'c\n']]));
    expect(head.length % 8).toBe(0);
    expect(placed.map(({ name }) => name)).toEqual(['codes', 'shape', 'scale', 'half', 'odd']);
    for (const { offset, name } of placed)
      expect([name, offset % ({ codes: 1, shape: 8, scale: 4, half: 2, odd: 1 }[name] ?? 0)]).toEqual([name, 0]);
    const read = parseHeader(head.subarray(8), size, 'new');
    expect(read.tensors).toEqual(placed);
    expect(read.metadata).toEqual(
      new Map([
        ['a"b', 'c\n'],
        ['format', 'pt'],
      ]),
    );
    expect(dataBytes).toBe(24 + 16 + 4 + 10 + 3);
  });

  test('may be larger than any buffer', () => {
    const { size } = layOut([{ name: 'a', dtype: 'BF16', shape: [2 ** 20, 2 ** 20] }], new Map());
    expect(size).toBeGreaterThan(2 ** 41);
  });
});

describe('an index', () => {
  test('comes out as it went in, keys sorted', () => {
    const map = new Map([
      ['b', 'two'],
      ['__proto__', 'one'],
      ['7', 'one'],
    ]);
    const bytes = indexBytes(map, 12);
    expect([...parseIndex(bytes, 'i')]).toEqual([...map].sort(([a], [b]) => (a < b ? -1 : 1)));
    expect(JSON.parse(bytes.toString())).toMatchObject({ metadata: { total_size: 12 } });
  });

  test.each(['{}', '{"weight_map":[]}', '{"weight_map":{"a":1}}', '{"weight_map":{"a":"../b"}}', '{"weight_map":{"a":"b","a":"c"}}', 'x'])(
    '%s is refused',
    (text) => {
      expect(() => parseIndex(json(text), 'i')).toThrow(expect.objectContaining({ kind: 'integrity' }));
    },
  );
});

test('JSON is read as JSON.parse reads it, where both take it', () => {
  const texts = ['{"a":[1,-2.5e3,true,false,null,"x\\n\\u00e9\\"",{}],"b":{"c":[]}}', '"\\ud83e\\udd99"', ' [ 0 , -0.5 ] ', '1e400'];
  const plain = (value: unknown): unknown =>
    value instanceof Map
      ? Object.fromEntries([...value].map(([key, each]) => [key, plain(each)]))
      : Array.isArray(value)
        ? value.map(plain)
        : value;
  for (const text of texts) expect(plain(parseStrictJson(json(text)))).toEqual(JSON.parse(text));
  for (const text of ['01', '1.', '.5', '+1', 'nul', 'NaN', "{'a':1}", '[1,]', '{"a":1,}', '']) {
    expect(() => parseStrictJson(json(text)), text).toThrow();
    expect(() => JSON.parse(text), text).toThrow();
  }
  expect(parseStrictJson(json('[NaN,-Infinity]'), { python: true })).toEqual([Number.NaN, Number.NEGATIVE_INFINITY]);
});

/** Numbers from 0 to 2^32 - 1, the same for the same seed (xorshift32). */
function random(seed: number): () => number {
  let x = seed;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return x >>> 0;
  };
}
