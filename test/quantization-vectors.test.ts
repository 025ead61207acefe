import { describe, expect, test } from 'vitest';
import { type PlannedWeight, rowsOf } from '../lib/compression/plan.ts';
import { type FloatType, numberOf, roundTo } from '../lib/quantization/floats.ts';
import { quantizeRows } from '../lib/quantization/kernel.ts';
import { type Method, methods, rowBlock, type Scheme, schemeOf } from '../lib/quantization/schemes.ts';
import { ScalarStrip, type Strip } from '../lib/quantization/strip.ts';
import { VectorStrip } from '../lib/quantization/vector-strip.ts';

const schemes: Scheme[] = [...methods.map((method) => schemeOf(method)), { ...schemeOf('w4a16-asym'), id: 'w8a16-asym', code: 'int8' }];
const roundings: (FloatType | undefined)[] = [undefined, 'BF16'];
const cases = schemes.flatMap((scheme) => roundings.map((round) => ({ scheme, round, name: `${scheme.id}, ${round ?? 'f32'}` })));

/** Every bfloat16 that is finite: 65,280 of them, sorted by their bits. */
const all = Int16Array.from({ length: 0x10000 }, (_, bits) => bits).filter((bits) => (bits & 0x7fff) < 0x7f80);

/** Of all sizes, with many and with few bits of mantissa; powers of two too, and the smallest that are not normal. */
const divisors = [
  1,
  0.0078125,
  2 ** -126,
  2 ** -130,
  2 ** -133,
  2 ** -127,
  1.5,
  0.0203,
  3.1e-5,
  0.999,
  7.77e-12,
  448,
  2 ** 120,
  3e38,
  2.6e-38,
  1 / 3,
];

/** Runs one group of all weights for each divisor through a strip. */
function run(strip: Strip, scheme: Scheme, group: number): { found: number[]; codes: Uint8Array; sums: { error: number; signal: number } } {
  const size = 16;
  const groups = all.length / size;
  strip.reserve(all.length, groups);
  strip.load(all, 0, all.length);
  strip.measure(0, groups, size, 0);
  const found = [...strip.found.subarray(0, scheme.symmetric ? groups : 2 * groups)];
  for (let i = 0; i < groups; i += 1) {
    const divisor = divisors[(i + group) % divisors.length]!;
    strip.divisors[i] = scheme.scale === 'e4m3' ? divisor : roundTo('BF16', divisor);
    strip.zeros[i] = scheme.symmetric ? 0 : ((i + group) % 16) - 8;
  }
  const codes = new Uint8Array(all.length);
  const sums = { error: 0, signal: 0 };
  strip.encode(0, groups, size, 0, codes, 0, sums);
  return { found, codes, sums };
}

describe('vectors do what is done one by one', () => {
  test.each(cases)('$name: the same sizes and codes for every bfloat16, whatever it is divided by', ({ scheme, round }) => {
    const vector = VectorStrip.of(scheme, round);
    const scalar = new ScalarStrip(scheme, 'BF16', round);
    expect(vector).toBeDefined();
    for (let group = 0; group < divisors.length; group += 1) {
      const [ours, theirs] = [run(vector!, scheme, group), run(scalar, scheme, group)];
      if (Buffer.compare(ours.codes, theirs.codes) !== 0) {
        const at = ours.codes.findIndex((code, i) => code !== theirs.codes[i]);
        const weight = scheme.code === 'int8' || scheme.code === 'e4m3' ? at : 2 * at;
        expect({ at, weight: numberOf('BF16', all[weight]!), code: ours.codes[at] }).toEqual({ code: theirs.codes[at] });
      }
      expect(ours.found).toEqual(theirs.found);
      if (Number.isFinite(theirs.sums.error)) expect(ours.sums.error / theirs.sums.error).toBeCloseTo(1, 9);
      expect(ours.sums.signal / theirs.sums.signal).toBeCloseTo(1, 9);
    }
  });

  test('a part of what was loaded is measured and written by itself', () => {
    const scheme = schemeOf('w4a16');
    const weights = all.subarray(0x3c00, 0x3c00 + 256);
    const into = [VectorStrip.of(scheme, undefined)!, new ScalarStrip(scheme, 'BF16', undefined)].map((strip) => {
      strip.reserve(256, 8);
      strip.load(weights, 64, 192);
      strip.measure(32, 2, 32, 3);
      strip.divisors.set([0.02, 0.03], 3);
      const codes = new Uint8Array(64).fill(0xa5);
      strip.encode(32, 2, 32, 3, codes, 8);
      return [...strip.found.subarray(3, 5), ...codes];
    });
    expect(into[0]).toEqual(into[1]);
    expect(into[0]!.slice(2, 10)).toEqual(new Array(8).fill(0xa5));
    expect(into[0]!.slice(42)).toEqual(new Array(24).fill(0xa5));
  });

  test('room that grows keeps nothing and loses nothing', () => {
    const scheme = schemeOf('fp8-dynamic');
    const strip = VectorStrip.of(scheme, undefined)!;
    strip.reserve(16, 1);
    const small = run(strip, scheme, 0);
    strip.reserve(400_000, 9000);
    expect(run(strip, scheme, 0)).toEqual(small);
  });

  test.each([48, 128, 176])('square blocks of %i columns: as if zeros filled the last one', (cols) => {
    const [scheme, rows, full] = [schemeOf('fp8-block'), 130, Math.ceil(cols / 128) * 128];
    const padded = new Int16Array(rows * full);
    for (let i = 0; i < rows * cols; i += 1) padded[Math.floor(i / cols) * full + (i % cols)] = all[(i * 7919) % all.length]!;
    const narrow = Int16Array.from({ length: rows * cols }, (_, i) => padded[Math.floor(i / cols) * full + (i % cols)]!);
    const codesOf = (weights: Int16Array, width: number) => {
      const into = [new Uint8Array(rows * width), new Uint8Array(2 * 2 * (full / 128))];
      const block = { bytes: new Uint8Array(weights.buffer), dtype: 'BF16', rows, cols: width, arithmetic: 'f32' } as const;
      expect(quantizeRows(scheme, block, into)).toBeUndefined();
      return into as [Uint8Array, Uint8Array];
    };
    const [[codes, scales], [wide, same]] = [codesOf(narrow, cols), codesOf(padded, full)];
    expect(scales).toEqual(same);
    expect(codes).toEqual(wide.filter((_, i) => i % full < cols));
  });

  test('other types and widths are left to the other way', () => {
    expect(VectorStrip.takes('BF16', 2048, 128)).toBe(true);
    for (const [type, cols, size] of [
      ['F16', 2048, 128],
      ['F32', 2048, 128],
      ['BF16', 77, 77],
      ['BF16', 136, 128],
    ] as const) {
      expect(VectorStrip.takes(type, cols, size)).toBe(false);
    }
  });
});

describe('pieces', () => {
  const pieces = (method: Method, rows: number, cols: number) => {
    const weight = { shape: [rows, cols], size: rows * cols * 2, offset: 100 } as unknown as PlannedWeight;
    return [...rowsOf(weight, schemeOf(method))];
  };

  test.each<[Method, number, number]>([
    ['fp8-dynamic', 5000, 2048],
    ['fp8-block', 1000, 8192],
    ['w4a16-asym', 4104, 3072],
    ['w4a16', 3, 4_194_304],
  ])('%s of [%i, %i]: all rows once, in order, in pieces that caches hold, one row of 32 measured', (method, rows, cols) => {
    const found = pieces(method, rows, cols);
    const together = rowBlock(schemeOf(method));
    let next = 0;
    for (const { offset, length, rows: piece } of found) {
      expect([piece.first, offset, length]).toEqual([next, 100 + next * cols * 2, piece.count * cols * 2]);
      expect(length).toBeLessThanOrEqual(Math.max(1024 ** 2, cols * 2 * together));
      next += piece.count;
      if (next < rows) expect([piece.count % together, piece.measured % together]).toEqual([0, 0]);
    }
    expect(next).toBe(rows);
    const measured = found.reduce((sum, { rows: piece }) => sum + piece.measured, 0);
    expect(measured).toBeGreaterThanOrEqual(rows / 32);
    // At least one block of each 4 MiB, or of each block where these are longer.
    expect(measured).toBeLessThanOrEqual(
      rows / 32 + together * Math.ceil((rows * cols * 2) / Math.max(cols * 2 * together, 2 * 1024 ** 2)),
    );
  });

  test('all rows of a weight up to 4 MiB are measured', () => {
    expect(pieces('w8a8', 1024, 2048).map(({ rows: { count, measured } }) => [count, measured])).toEqual(new Array(4).fill([256, 256]));
  });
});
