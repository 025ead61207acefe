import { describe, expect, test } from 'vitest';
import { balanceOf, byPath, cut } from '../lib/fanout/cut.ts';

const GB = 1e9;
type Sized = { path: string; size: number; sha256: string };
const file = (path: string, size: number): Sized => ({ path, size, sha256: path });
const weights = (count: number, size: (index: number) => number) =>
  Array.from({ length: count }, (_, i) =>
    file(`model-${String(i + 1).padStart(5, '0')}-of-${String(count).padStart(5, '0')}.safetensors`, size(i)),
  );
/** What lies beside the weights: configuration, tokenizer, card. */
const beside = [
  file('README.md', 20_000),
  file('config.json', 1_500),
  file('generation_config.json', 200),
  file('model.safetensors.index.json', 9_000_000),
  file('tokenizer.json', 7_900_000),
  file('tokenizer_config.json', 4_000),
];

/** File lists as large models have them: sizes of the weights as on the Hub, the last one shorter. */
const models: Record<string, Sized[]> = {
  '163 files of 4.3 GB (DeepSeek-V3)': [...weights(163, (i) => (i === 162 ? 6.6 : 4.3) * GB), ...beside],
  '30 files of 4.9 GB (Llama 3.1 70B)': [...weights(30, (i) => (i === 29 ? 2.1 : 4.9) * GB), ...beside],
  'one file of 48 GB': [file('model.safetensors', 48 * GB), ...beside],
  '2,000 files of 0.5 MB': weights(2000, () => 500_000),
};

const ratio = (name: string, shards: number) => {
  const { largest, mean } = balanceOf(cut(models[name] ?? [], shards));
  return Math.round((largest / mean) * 100) / 100;
};

describe('cutting a model into shards', () => {
  // The largest shard in units of their mean; the README shows this table.
  test.each<[string, [number, number, number]]>([
    ['163 files of 4.3 GB (DeepSeek-V3)', [1, 1.03, 1.08]],
    ['30 files of 4.9 GB (Llama 3.1 70B)', [1.09, 1.09, 1.09]],
    ['one file of 48 GB', [4, 7, 7]],
    ['2,000 files of 0.5 MB', [1, 1, 1]],
  ])('%s: max/mean at 4, 8 and 16 shards', (name, expected) => {
    expect([4, 8, 16].map((shards) => ratio(name, shards))).toEqual(expected);
  });

  test('says how many shards are of use where one file is most of the model', () => {
    expect(balanceOf(cut(models['one file of 48 GB'] ?? [], 8)).useful).toBe(2);
    expect(balanceOf(cut(models['163 files of 4.3 GB (DeepSeek-V3)'] ?? [], 8)).useful).toBe(8);
  });

  test('many small files count as work too', () => {
    const [first = [], second = []] = cut([file('large', 100e6), ...Array.from({ length: 100 }, (_, i) => file(`small-${i}`, 1))], 2);
    expect([first.length, second.length]).toEqual([3, 98]);
  });

  test.each([1, 3, 7, 20])('%i shards hold every file once, and none is empty', (shards) => {
    const files = [...beside, ...weights(5, () => GB), file('empty', 0), file('sub/empty', 0)];
    const cuts = cut(files, shards);
    expect(cuts.length).toBe(Math.min(shards, files.length));
    expect(cuts.flat().sort(byPath)).toEqual([...files].sort(byPath));
    for (const each of cuts) expect(each.length).toBeGreaterThan(0);
    expect(cut([...files].reverse(), shards)).toEqual(cuts);
  });
});
