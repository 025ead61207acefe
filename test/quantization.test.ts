import { describe, expect, test } from 'vitest';
import { bitsIn, type FloatType, numberOf, rint, roundTo } from '../lib/quantization/floats.ts';
import { type Arithmetic, maxAbs, quantizeRows, type RowBlock } from '../lib/quantization/kernel.ts';
import { fixedValue, outputsOf } from '../lib/quantization/outputs.ts';
import { globalScaleOf } from '../lib/quantization/scales.ts';
import { bitsOf, fits, type Method, methods, rowBlock, type Scheme, schemeOf } from '../lib/quantization/schemes.ts';

const types = ['BF16', 'F16', 'F32'] as const;
const arithmetics = ['f32', 'native'] as const;
const channel = schemeOf('w4a16', { groupSize: -1 });
const channel8 = schemeOf('w8a16', { groupSize: -1 });
const schemes: Scheme[] = [...methods.map((method) => schemeOf(method)), channel, channel8, schemeOf('w4a16', { groupSize: 32 })];

/** Numbers from 0 to 2^32 - 1, the same for the same seed (xorshift32). */
function randomBits(seed: number): () => number {
  let x = seed;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return x >>> 0;
  };
}

function bytesOf(type: FloatType, values: readonly number[]): Uint8Array {
  const size = type === 'F32' ? 4 : 2;
  const bytes = Buffer.alloc(values.length * size);
  for (const [i, value] of values.entries()) bytes.writeUIntLE(bitsIn(type, Math.fround(value)) >>> 0, i * size, size);
  return bytes;
}

/** The parts of a whole weight, in the order of its outputs; filled before, so that a byte that nobody writes is seen. */
function quantize(scheme: Scheme, block: RowBlock): { parts: Uint8Array[]; fault: ReturnType<typeof quantizeRows>; relative: number } {
  const outputs = outputsOf(scheme, 'x', [block.rows, block.cols], block.dtype).filter(({ perRow }) => perRow > 0);
  const parts = outputs.map(({ bytes }) => new Uint8Array(bytes).fill(0xa5));
  const sums = { error: 0, signal: 0 };
  const fault = quantizeRows(scheme, block, parts, sums);
  return { parts, fault, relative: Math.sqrt(sums.error / sums.signal) };
}

function weight(type: FloatType, rows: number, values: readonly number[], arithmetic: Arithmetic = 'f32'): RowBlock {
  const bytes = bytesOf(type, values);
  return { bytes, dtype: type, rows, cols: values.length / rows, arithmetic, globalScale: globalScaleOf(maxAbs(bytes, type), type) };
}

describe('floats', () => {
  test('halves go to the even integer', () => {
    expect([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 2.4999, 7, -8, 126.5].map(rint)).toEqual([-2, -2, 0, 0, 2, 2, 2, 7, -8, 126]);
  });

  test('float16 rounds as the engine does', () => {
    // In ES2025, which the compiler is not told of.
    const f16round = (Math as unknown as { f16round: (value: number) => number }).f16round;
    const random = randomBits(1);
    const values = Array.from({ length: 20_000 }, () => numberOf('F32', (random() & 0x9fffffff) + 0x30000000)).filter(Number.isFinite);
    for (const value of [...values, 65519, 65520, 2 ** -24, 2 ** -25, 1.5 * 2 ** -24, 0, -0]) {
      if (!Object.is(roundTo('F16', value), f16round(value))) expect([value, roundTo('F16', value)]).toEqual([value, f16round(value)]);
    }
  });

  test('bfloat16 goes to the nearer neighbour, halves to the even one', () => {
    const random = randomBits(2);
    for (let i = 0; i < 20_000; i += 1) {
      const bits = random() % 0x7f7f0000;
      const [value, below, above] = [bits, bits & 0xffff0000, (bits & 0xffff0000) + 0x10000].map((each) => numberOf('F32', each)) as [
        number,
        number,
        number,
      ];
      const even = (bits >>> 16) & 1 ? above : below;
      const nearest = value - below === above - value ? even : value - below < above - value ? below : above;
      if (roundTo('BF16', value) !== nearest) expect([value, roundTo('BF16', value)]).toEqual([value, nearest]);
    }
  });

  test('every float16 and bfloat16 has the bits it came from', () => {
    for (const type of ['BF16', 'F16'] as const) {
      for (let bits = 0; bits < 0x10000; bits += 1) {
        const value = numberOf(type, bits);
        if (!Number.isNaN(value) && bitsIn(type, value) !== bits) expect([type, bitsIn(type, value)]).toEqual([type, bits]);
      }
    }
  });
});

describe('layout', () => {
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

  test('4 bit: eight codes a word, the first lowest', () => {
    // The largest size is 7.5, so the scale is 1.
    const { parts } = quantize(channel, weight('BF16', 1, [-7.5, -3, 0, 1, 7, -1, 2, 5]));
    expect(parts.map(hex)).toEqual(['50987fda', '803f']);
  });

  test('8 bit: four codes a word', () => {
    expect(quantize(channel8, weight('BF16', 1, [-127.5, -1, 0, 127])).parts.map(hex)).toEqual(['007f80ff', '803f']);
  });

  test.each(types)('a row that fills no word is filled with zero bits, not with the code of zero (%s)', (type) => {
    const block = weight(type, 2, [-7.5, 1, 3, 7.5, 7.5, 7.5]);
    expect(hex(quantize(channel, block).parts[0]!)).toBe('900b0000ff0f0000');
    expect(hex(quantize(channel8, weight(type, 2, [-127.5, 1, 3, 127, 127.5, 127])).parts[0]!)).toBe('00818300ffffff00');
  });

  test.each(['BF16', 'F32'] as const)(
    'fp4: the first in the low half; a negative that becomes zero keeps its sign, -0 does not (%s)',
    (type) => {
      const values = [0.5, -6, -0.1, -0, 0, 0.25, 0.75, -0.75, 1.25, 1.75, 2.5, 3.5, 5, -5, 3, 4, ...new Array<number>(16).fill(1e-30)];
      const { parts } = quantize(schemeOf('mxfp4a16'), weight(type, 1, values));
      expect(parts.map(hex)).toEqual(['f10800a24264e6650000000000000000', '7f']);
    },
  );

  test('zero points: eight rows a word, the first lowest', () => {
    const row = (low: number) => Array.from({ length: 128 }, (_, i) => (i === 0 ? -low : i === 1 ? 15 - low : 0));
    const { parts } = quantize(schemeOf('w4a16-asym'), weight('BF16', 8, [0, 2, 4, 6, 8, 10, 12, 14].flatMap(row)));
    expect(hex(parts[2]!)).toBe('2064a8ec');
  });

  test.each(schemes)('$id: sizes are those of the shapes', (scheme) => {
    const sizes: Record<string, number> = { I64: 8, I32: 4, F32: 4, BF16: 2, F16: 2, F8_E4M3: 1, I8: 1, U8: 1 };
    for (const dtype of types) {
      for (const output of outputsOf(scheme, 'model.x', [264, 256], dtype)) {
        const { name, bytes, perRow, rowBytes, shape } = output;
        expect(name).toMatch(/^model\.x\.weight/);
        expect(bytes).toBe(shape.reduce((a, b) => a * b, sizes[output.dtype]!));
        expect(bytes).toBe(perRow === 0 ? fixedValue(output, [264, 256]).length : Math.ceil(264 / perRow) * rowBytes);
        if (perRow > 0) expect(rowBlock(scheme) % perRow).toBe(0);
      }
    }
  });
});

/** The numbers a format has from zero up, by code. */
const sizesOf: Record<'e4m3' | 'e2m1', number[]> = {
  e4m3: Array.from({ length: 127 }, (_, code) => (code < 8 ? code * 2 ** -9 : (8 + (code % 8)) * 2 ** (Math.floor(code / 8) - 10))),
  e2m1: [0, 0.5, 1, 1.5, 2, 3, 4, 6],
};

/** The code of a quotient by search: the nearest, halves to the even one. */
function nearest(scheme: Scheme, quotient: number): number {
  const { code } = scheme;
  if (code === 'e4m3' || code === 'e2m1') {
    const sizes = sizesOf[code];
    const size = Math.abs(quotient);
    const above = sizes.findIndex((each) => each >= size);
    const [below, gap] = above < 1 ? [0, 0] : [size - sizes[above - 1]!, sizes[above]! - size];
    const found = above === -1 ? sizes.length - 1 : above > 0 && (below < gap || (below === gap && above % 2 === 1)) ? above - 1 : above;
    const negative = code === 'e2m1' ? quotient < 0 : quotient < 0 || Object.is(quotient, -0);
    return found + (negative ? sizes.length + (code === 'e4m3' ? 1 : 0) : 0);
  }
  const [min, max] = code === 'int4' ? [-8, 7] : [-128, 127];
  const low = Math.floor(quotient);
  const whole = quotient - low > 0.5 || (quotient - low === 0.5 && low % 2 !== 0) ? low + 1 : low;
  const value = Math.min(Math.max(whole, min), max);
  return scheme.packed ? value - min : value & 0xff;
}

/** What a stored code stands for. */
function meaning({ code, packed }: Scheme, stored: number): number {
  if (code === 'int4') return stored - 8;
  if (code === 'int8') return packed ? stored - 128 : (stored << 24) >> 24;
  const top = code === 'e4m3' ? 128 : 8;
  return (stored & top ? -1 : 1) * sizesOf[code][stored & (top - 1)]!;
}

/** Numbers of any size a type has, or weights as models have them, made larger or smaller. */
function numbersOf(type: FloatType, count: number, kind: 'any' | number, next: () => number): number[] {
  const limit = numberOf(type, { BF16: 0x7e80, F16: 0x7800, F32: 0x7e800000 }[type]);
  const least = numberOf(type, 1);
  const tiny = [0, -0, least, -least, 3 * least, -3 * least];
  const one = () => {
    if (next() % 16 === 0) return tiny[next() % tiny.length]!;
    if (kind === 'any') return numberOf(type, type === 'F32' ? next() | 0 : next() & 0xffff);
    return (((next() >>> 8) + (next() >>> 8) + (next() >>> 8)) * 2 ** -24 - 1.5) * 0.02 * 2 ** kind;
  };
  return Array.from({ length: count }, () => {
    const value = roundTo(type, one());
    return Math.abs(value) < limit ? value : 0;
  });
}

describe('codes', () => {
  const cases = schemes.flatMap((scheme) => types.map((type) => ({ scheme, type })));

  test.each(cases)('$scheme.id of $type: each is the nearest to weight / scale, whatever their size', ({ scheme, type }) => {
    const next = randomBits(7);
    const bits = bitsOf(scheme);
    const [rows, cols] = [8, scheme === channel || scheme === channel8 ? 77 : 256];
    for (const kind of ['any', -124, -117, -20, -9, 0, 3, 7, 12, 100] as const) {
      for (const arithmetic of arithmetics) {
        const values = numbersOf(type, rows * cols, kind, next);
        const block = weight(type, rows, values, arithmetic);
        const { parts, fault, relative } = quantize(scheme, block);
        expect(fault).toBeUndefined();
        const [codes, scales, zeroPoints] = parts.map((part) => Buffer.from(part.buffer)) as [Buffer, Buffer, Buffer];
        const groups = Math.ceil(cols / (scheme.groupCols || cols));
        const scaleSize = scales.length / (Math.ceil(rows / scheme.groupRows) * groups);
        let [error, signal] = [0, 0];
        for (const [i, value] of values.entries()) {
          const [row, col] = [Math.floor(i / cols), i % cols];
          const group = Math.floor(col / (scheme.groupCols || cols));
          const stored = scales.readUIntLE((Math.floor(row / scheme.groupRows) * groups + group) * scaleSize, scaleSize);
          const scale = {
            float: () => numberOf(type, stored),
            e4m3: () => Math.fround(sizesOf.e4m3[stored]! / block.globalScale!),
            e8m0: () => roundTo(type, 2 ** (stored - 127)),
          }[scheme.scale]();
          const zero = scheme.symmetric ? 0 : ((zeroPoints[group * 4 + (row >> 1)]! >> (row % 2 ? 4 : 0)) & 15) - 8;
          const round = arithmetic === 'native' && scheme.scale !== 'e4m3' ? type : 'F32';
          const quotient = roundTo(round, value / scale);
          const at = row * (codes.length / rows) + Math.floor((col * bits) / 8);
          const code = bits === 8 ? codes[at]! : (codes[at]! >> (col % 2 ? 4 : 0)) & 15;
          const wanted = nearest(scheme, zero === 0 ? quotient : roundTo(round, quotient + zero));
          if (code !== wanted) expect({ kind, arithmetic, row, col, value, scale, zero, code }).toEqual({ code: wanted });
          error += (value - (meaning(scheme, code) - zero) * scale) ** 2;
          signal += value ** 2;
        }
        expect(signal === 0 ? 1 : relative / Math.sqrt(error / signal)).toBeCloseTo(1, 6);
      }
    }
  });

  test.each(cases)('$scheme.id of $type: what is no number is found where it lies', ({ scheme, type }) => {
    for (const value of [Number.NaN, Infinity, -Infinity]) {
      const block = weight(type, 16, numbersOf(type, 16 * 256, 0, randomBits(3)));
      const bits = Number.isNaN(value) ? { BF16: 0x7fc1, F16: 0x7c01, F32: 0x7f800001 }[type] : bitsIn(type, value) >>> 0;
      const size = type === 'F32' ? 4 : 2;
      Buffer.from(block.bytes.buffer, block.bytes.byteOffset).writeUIntLE(bits, (11 * 256 + 99) * size, size);
      expect(quantize(scheme, block).fault).toEqual({ row: 11, col: 99, value: String(value) });
      expect(Number.isFinite(maxAbs(block.bytes, type))).toBe(false);
    }
  });

  test.each(['BF16', 'F32'] as const)('bytes that are not aligned are read and written all the same (%s)', (type) => {
    const block = { ...weight(type, 8, numbersOf(type, 8 * 256, 0, randomBits(5))), globalScale: 1 };
    const shifted = new Uint8Array(block.bytes.length + 1).subarray(1);
    shifted.set(block.bytes);
    for (const scheme of schemes) {
      const { parts } = quantize(scheme, block);
      const odd = parts.map(({ length }) => new Uint8Array(length + 1).subarray(1));
      quantizeRows(scheme, { ...block, bytes: shifted }, odd);
      expect(odd).toEqual(parts);
    }
    expect(maxAbs(shifted, type)).toBe(maxAbs(block.bytes, type));
  });

  test('without the scale of the whole tensor NVFP4 is not guessed', () => {
    const { globalScale: _, ...block } = weight('BF16', 1, new Array<number>(16).fill(1));
    expect(() => quantize(schemeOf('nvfp4a16'), block)).toThrow('needs the scale of the whole tensor');
  });

  test('numbers too far apart for a scale are a fault, not an infinite scale', () => {
    const [low, high] = [-numberOf('F16', 0x7bff), numberOf('F16', 0x7bff)];
    const values = Array.from({ length: 8 * 128 }, (_, i) => (i % 2 ? low : high));
    expect(quantize(schemeOf('w4a16-asym'), weight('F16', 8, values)).fault?.value).toContain('too far apart');
  });
});

describe('schemes', () => {
  test.each<[Method, number, string]>([
    ['fp8-dynamic', 128, 'fp8-dynamic has a fixed way to share scales'],
    ['mxfp4', 16, 'mxfp4 has a fixed way to share scales'],
    ['w4a16', 48, 'w4a16 takes 32, 64, 128, -1'],
    ['w8a16', 0, 'w8a16 takes 32, 64, 128, -1'],
    ['w4a16-asym', -1, 'w4a16-asym takes 32, 64, 128'],
  ])('%s has no groups of %i', (method, groupSize, cause) => {
    expect(() => schemeOf(method, { groupSize })).toThrow(
      expect.objectContaining({ kind: 'usage', message: `failed to read --group-size ${groupSize}: ${cause}` }),
    );
  });

  test('the usual group size is the method by its own name', () => {
    expect(schemeOf('w4a16', { groupSize: 128 })).toEqual(schemeOf('w4a16'));
    expect([channel.id, schemeOf('w8a16', { groupSize: 64 }).id]).toEqual(['w4a16-channel', 'w8a16-g64']);
  });

  test.each<[Scheme, number[], string | undefined]>([
    [schemeOf('fp8-dynamic'), [7, 33], undefined],
    [schemeOf('fp8-block'), [200, 130], undefined],
    [schemeOf('w4a16'), [5, 256], undefined],
    [schemeOf('w4a16'), [8, 200], 'its 200 columns are not a multiple of the group size 128'],
    [schemeOf('w4a16-asym'), [12, 128], 'its 12 rows are not a multiple of 8'],
    [schemeOf('nvfp4a16'), [4, 24], 'its 24 columns are not a multiple of the group size 16'],
    [schemeOf('mxfp4'), [4, 48], 'its 48 columns are not a multiple of the group size 32'],
    [channel, [4, 12], 'its 12 columns are not a multiple of 8'],
    [channel8, [4, 12], undefined],
    [schemeOf('w8a8'), [0, 12], 'it has no elements'],
    [schemeOf('w8a8'), [4, 8, 8], 'it has 3 dimensions, not 2'],
  ])('$0.id and $1: $2', (scheme, shape, why) => {
    expect(fits(scheme, shape)).toBe(why);
  });
});
