import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { globMatcher } from '../lib/glob.ts';
import { type SelectionOptions, selectFiles } from '../lib/selection.ts';
import { tinyLlama } from './fakes/model.ts';

const everything: SelectionOptions = { allowPatterns: [], ignorePatterns: [], profile: 'all' };

function select(paths: Iterable<string>, options: Partial<SelectionOptions>): string[] {
  return selectFiles(
    [...paths].map((path) => ({ path })),
    { ...everything, ...options },
  ).map(({ path }) => path);
}

/** Every case is also what Python's fnmatch says: see the last test. */
const cases: [pattern: string, path: string, matches: boolean][] = [
  ['*.json', 'config.json', true],
  ['*.json', 'a/b/config.json', true],
  ['*.json', 'config.json.bak', false],
  ['config.json', 'a/config.json', false],
  ['model-*-of-*.safetensors', 'model-00001-of-00002.safetensors', true],
  ['*a*b*c', 'xxaxxbxxc', true],
  ['*a*b*c', 'xxbxxaxxc', false],
  ['*ab', 'aab', true],
  ['ab*ba', 'aba', false],
  ['?.txt', 'a.txt', true],
  ['?.txt', '/.txt', true],
  ['?.txt', '🦙.txt', true],
  ['?.txt', '.txt', false],
  ['[ab].txt', 'b.txt', true],
  ['[a-c]x', 'cx', true],
  ['[a-c]x', 'dx', false],
  ['[!a-c]x', 'dx', true],
  ['[!a-c]x', 'ax', false],
  ['[]]x', ']x', true],
  ['[!]]x', ']x', false],
  ['[a-]x', '-x', true],
  ['[^a]x', '^x', true],
  ['[^a]x', 'bx', false],
  ['[c-a]x', 'bx', false],
  ['[x', '[x', true],
  ['[!x', '[!x', true],
  ['a.b', 'axb', false],
  ['(a|b)+$', 'a', false],
  ['\\*', '\\anything', true],
  ['*', '', true],
  ['**', 'a/b', true],
  ['', 'a', false],
  ['Config.json', 'config.json', false],
];

describe('globs', () => {
  test.each(cases)('%s on %s: %s', (pattern, path, matches) => {
    expect(globMatcher(pattern)(path)).toBe(matches);
  });

  test('a pattern that ends in a slash means all below it', () => {
    expect(globMatcher('original/')('original/a/b.pth')).toBe(true);
    expect(globMatcher('original/')('originals')).toBe(false);
  });

  test('many stars take no time', () => {
    expect(globMatcher(`${'*a'.repeat(60)}b`)('a'.repeat(20_000))).toBe(false);
  });

  test.runIf(spawnSync('python3', ['--version']).status === 0)('the cases are what Python says', () => {
    const code = 'import fnmatch,json,sys; print(json.dumps([fnmatch.fnmatchcase(p,g) for g,p,_ in json.load(sys.stdin)]))';
    const { stdout } = spawnSync('python3', ['-c', code], { input: JSON.stringify(cases), encoding: 'utf8' });
    expect(JSON.parse(stdout)).toEqual(cases.map(([, , matches]) => matches));
  });
});

describe('selectFiles', () => {
  test('takes everything by default', () => {
    expect(select(['b', 'a'], {})).toEqual(['b', 'a']);
  });

  test('takes what is allowed and not ignored', () => {
    const paths = ['config.json', 'model.safetensors', 'original/params.json', 'README.md'];
    expect(select(paths, { allowPatterns: ['*.safetensors', '*.json'], ignorePatterns: ['original/'] })).toEqual([
      'config.json',
      'model.safetensors',
    ]);
  });

  test('no match is not-found, with the patterns and what is there', () => {
    const attempt = () => select(['config.json', 'model.bin'], { allowPatterns: ['*.gguf'] });
    expect(attempt).toThrow(/none of 2 .*--allow-patterns \*\.gguf/);
    expect(attempt).toThrow(expect.objectContaining({ kind: 'not-found', hint: expect.stringContaining('config.json, model.bin') }));
  });

  test('vllm: one set of weights and nothing that no server reads', () => {
    expect(select(tinyLlama({ junk: true }).keys(), { profile: 'vllm' }).sort()).toEqual([
      'LICENSE',
      'README.md',
      'config.json',
      'docs/Überblick – 模型 🦙.md',
      'empty.txt',
      'examples/100%#1?.txt',
      "examples/it's (a) 'quote' [1].txt",
      'examples/with space & plus+.txt',
      'generation_config.json',
      'model-00001-of-00002.safetensors',
      'model-00002-of-00002.safetensors',
      'model.safetensors.index.json',
      'modeling_custom.py',
      'special_tokens_map.json',
      'tokenizer.json',
      'tokenizer_config.json',
    ]);
  });

  test.each([
    ['consolidated weights alone stay', ['consolidated.safetensors', 'params.json', 'tekken.json'], []],
    ['weights of another format stay when there are no safetensors', ['pytorch_model.bin', 'config.json'], []],
    ['so does original/', ['original/consolidated.00.pth'], []],
    [
      'the second set of weights goes with its index',
      ['model.safetensors'],
      ['consolidated.safetensors', 'consolidated.safetensors.index.json', 'pytorch_model.bin.index.json', 'metal/model.bin', 'tf_model.h5'],
    ],
    ['a pooling module keeps its only weights', ['model.safetensors', '2_Dense/pytorch_model.bin'], []],
    ['and not the second set', ['model.safetensors', '2_Dense/model.safetensors'], ['2_Dense/pytorch_model.bin']],
    [
      'templates, code and tokenizers stay',
      ['model.safetensors', 'chat_template.jinja', 'x.py', 'tokenizer.model', 'merges.txt'],
      ['a.png'],
    ],
  ])('vllm: %s', (_, kept, left) => {
    expect(select([...kept, ...left], { profile: 'vllm' })).toEqual(kept);
  });

  test('vllm looks at what the patterns leave', () => {
    expect(select(['model.safetensors', 'pytorch_model.bin'], { profile: 'vllm', ignorePatterns: ['*.safetensors'] })).toEqual([
      'pytorch_model.bin',
    ]);
  });
});
