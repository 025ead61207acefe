import { describe, expect, test } from 'vitest';
import { disagreements, ignoreList } from '../lib/quantization/ignore-list.ts';
import { patternOf } from '../lib/quantization/patterns.ts';
import { type Method, schemeOf } from '../lib/quantization/schemes.ts';
import { alwaysIgnored, readPatterns, type Selected, select } from '../lib/quantization/select.ts';
import { type ModelFacts, type ModelTensor, type Weight, weightsOf } from '../lib/quantization/weights.ts';
import { type Dtype, tensorBytes } from '../lib/safetensors/dtypes.ts';

const llama: ModelFacts = { modelType: 'llama', hiddenSize: 256, vocabSize: 320 };

/** Tensors behind one another, as a file has them. */
function tensors(shapes: Record<string, number[]>, dtype: Dtype = 'BF16'): ModelTensor[] {
  let offset = 100;
  return Object.entries(shapes).map(([name, shape]) => {
    const size = tensorBytes(dtype, shape) ?? Number.NaN;
    offset += size;
    return { name, dtype, shape, offset: offset - size, size, file: 'model.safetensors' };
  });
}

interface Options {
  method?: Method;
  ignore?: string[];
  targets?: string[];
  facts?: ModelFacts;
}

function choose(
  shapes: Record<string, number[]>,
  { method = 'fp8-dynamic', ignore = [], targets = ['Linear'], facts = llama }: Options = {},
): Selected {
  const ignored = readPatterns('ignore', ignore);
  const weights = weightsOf(tensors(shapes), facts, (module) => ignored.some(({ matches }) => matches(module)));
  const choice = { ignore: ignored, targets: readPatterns('targets', targets), maxBlockBytes: 2 ** 25 };
  return select(weights, schemeOf(method), choice, facts);
}

describe('a pattern', () => {
  test.each<[string, string, boolean]>([
    ['lm_head', 'lm_head', true],
    ['lm_head', 'model.lm_head', false],
    ['re:lm_head', 'lm_head_2', true],
    ['re:lm_head', 'model.lm_head', false],
    ['re:.*lm_head$', 'model.lm_head', true],
    ['re:a|b$', 'ax', true],
    ['re:.*layers\\.(1|2[0-9])\\.', 'model.layers.25.mlp', true],
    ['re:.*layers\\.(?!0\\.)\\d+\\.mlp', 'model.layers.0.mlp', false],
    ['re:.*\\w+?_proj$', 'model.q_proj', true],
    ['re:[\\w.-]+$', 'a.b-c', true],
    ['re:[^.]+$', 'a.b', false],
    ['re:x{2,3}$', 'xxxx', false],
    ['re:\\-\\_a', '-_a', true],
    ['re:.\\.b', '\r.b', true],
  ])('%s on %j is %s, as re.match says', (entry, module, wanted) => {
    const pattern = patternOf(entry);
    expect('matches' in pattern && pattern.matches(module)).toBe(wanted);
  });

  test.each([
    're:(?i)a',
    're:(?P<n>a)',
    're:(?<=a)b',
    're:(a)\\1',
    're:a*+',
    're:a**',
    're:\\Aa',
    're:a\\Z',
    're:a{,3}',
    're:[]a]',
    're:[[a]]',
    're:[a',
    're:(a',
    're:a)',
    're:*',
    're:\\',
    're:(?>a)',
    're:(?#x)',
  ])('%s is refused rather than guessed at', (entry) => {
    expect(patternOf(entry)).toHaveProperty('fault');
  });
});

describe('the choice of weights', () => {
  test('takes linear layers and leaves the rest, whatever it is called', () => {
    const { quantized, left } = choose({
      'model.embed_tokens.weight': [320, 256],
      'transformer.wte.weight': [320, 256],
      'model.layers.0.input_layernorm.weight': [256],
      'model.layers.0.self_attn.o_proj.weight': [256, 256],
      'model.layers.0.self_attn.o_proj.bias': [256],
      'model.layers.0.mlp.gate.weight': [8, 256],
      'model.layers.0.conv1d.weight': [256, 1, 4],
      'visual.patch.weight': [256, 3, 2, 14, 14],
      'visual.blocks.0.mlp.fc1.weight': [256, 256],
      'model.lookup.weight': [320, 256],
      'lm_head.weight': [320, 256],
      rotary: [32, 32],
    });
    expect([...quantized.keys()]).toEqual(['model.layers.0.self_attn.o_proj']);
    expect([...left.keys()]).toEqual([
      'model.embed_tokens',
      'transformer.wte',
      'model.layers.0.mlp.gate',
      'model.layers.0.conv1d',
      'visual.patch',
      'visual.blocks.0.mlp.fc1',
      'model.lookup',
      'lm_head',
    ]);
    expect(left.get('model.lookup')).toContain('vocabulary');
  });

  const layer = (cols: number, kv = 128) => ({
    'l.0.self_attn.q_proj.weight': [256, cols],
    'l.0.self_attn.k_proj.weight': [kv, cols],
    'l.0.self_attn.v_proj.weight': [kv, cols],
    'l.0.self_attn.o_proj.weight': [cols, 256],
    'l.0.mlp.gate_proj.weight': [384, cols],
    'l.0.mlp.up_proj.weight': [384, cols],
    'l.0.mlp.down_proj.weight': [cols, 384],
  });

  test('takes a set that shares a layer whole, or leaves it whole', () => {
    const ignored = choose(layer(256), { ignore: ['re:.*q_proj$'] });
    expect([...ignored.left]).toEqual([
      ['l.0.self_attn.q_proj', '--ignore re:.*q_proj$'],
      ['l.0.self_attn.k_proj', 'goes with l.0.self_attn.q_proj, which is left'],
      ['l.0.self_attn.v_proj', 'goes with l.0.self_attn.q_proj, which is left'],
    ]);
    const targeted = choose(layer(256), { targets: ['re:.*(gate_proj|down_proj)$'] });
    expect([...targeted.quantized.keys()]).toEqual(['l.0.mlp.down_proj']);
    expect(targeted.left.get('l.0.mlp.gate_proj')).toContain('goes with l.0.mlp.up_proj');
  });

  test('leaves what the group size does not divide', () => {
    const { quantized, left } = choose(layer(160), { method: 'w4a16' });
    expect([...quantized.keys()]).toEqual(['l.0.self_attn.o_proj', 'l.0.mlp.down_proj']);
    expect(left.get('l.0.self_attn.q_proj')).toContain('160 columns');
  });

  test('needs whole blocks in all parts of a layer but the last', () => {
    expect([...choose(layer(256, 64), { method: 'fp8-block' }).left.keys()]).toEqual([
      'l.0.self_attn.q_proj',
      'l.0.self_attn.k_proj',
      'l.0.self_attn.v_proj',
    ]);
    const wide = { ...layer(256), 'l.0.mlp.gate_proj.weight': [384, 256], 'l.0.mlp.up_proj.weight': [400, 256] };
    expect(choose(wide, { method: 'fp8-block' }).left.size).toBe(0);
  });

  test('takes all experts of a layer or none, and those of the other layers all the same', () => {
    const expert = (at: string, inner: number) => ({
      [`${at}.gate_proj.weight`]: [inner, 256],
      [`${at}.up_proj.weight`]: [inner, 256],
      [`${at}.down_proj.weight`]: [256, inner],
    });
    const { quantized, left } = choose(
      { ...expert('l.0.mlp.experts.0', 128), ...expert('l.0.mlp.experts.1', 130), ...expert('l.1.mlp.experts.0', 128) },
      { method: 'w8a16' },
    );
    expect([...quantized.keys()].every((module) => module.startsWith('l.1.'))).toBe(true);
    expect([left.size, quantized.size]).toEqual([6, 3]);
  });

  test('leaves what has rows too long to hold', () => {
    expect(choose({ 'a.weight': [2, 2 ** 25] }).left).toEqual(new Map([['a', 'has rows too long to hold']]));
    expect(choose({ 'a.weight': [128, 2 ** 18] }, { method: 'fp8-block' }).left.size).toBe(1);
    expect(choose({ 'a.weight': [128, 2 ** 18] }).quantized.size).toBe(1);
  });
});

describe('experts that share a tensor', () => {
  const fused = (gateUp: number[], down: number[], suffix = '') => ({
    [`l.0.mlp.experts.gate_up_proj${suffix}`]: gateUp,
    [`l.0.mlp.experts.down_proj${suffix}`]: down,
  });

  test.each(['', '.weight'])('are gate and up of each, then down of each (%j)', (suffix) => {
    const { quantized } = choose(fused([3, 128, 256], [3, 256, 64], suffix));
    const rows = (module: string) => {
      const { shape, offset, size } = quantized.get(module) as Weight;
      return [shape, offset - 100, size];
    };
    const half = 64 * 256 * 2;
    expect(rows('l.0.mlp.experts.0.gate_proj')).toEqual([[64, 256], 0, half]);
    expect(rows('l.0.mlp.experts.0.up_proj')).toEqual([[64, 256], half, half]);
    expect(rows('l.0.mlp.experts.2.up_proj')).toEqual([[64, 256], 5 * half, half]);
    expect(rows('l.0.mlp.experts.1.down_proj')).toEqual([[256, 64], 7 * half, half]);
    expect(quantized.size).toBe(9);
  });

  const refused: [string, Record<string, number[]>, ModelFacts][] = [
    ['transposed', fused([3, 256, 128], [3, 64, 256]), llama],
    ['transposed and square', fused([3, 256, 256], [3, 128, 256]), llama],
    ['of two sizes', fused([3, 128, 256], [4, 256, 64]), llama],
    ['without the other half', { 'l.0.mlp.experts.gate_up_proj': [3, 128, 256] }, llama],
    ['of a width that the config does not say', fused([3, 128, 256], [3, 256, 64]), { ...llama, hiddenSize: undefined }],
    ["gpt-oss's", fused([3, 128, 256], [3, 256, 64]), { ...llama, modelType: 'gpt_oss' }],
    ["Llama 4's", fused([3, 128, 256], [3, 256, 64]), { ...llama, modelType: 'llama4_text' }],
    ['of another kind', { 'l.0.ffn.experts.mlp.w1': [512, 256] }, llama],
  ];
  test.each(refused)('%s are refused', (_, shapes, facts) => {
    expect(() => choose(shapes, { facts })).toThrow(expect.objectContaining({ kind: 'refused' }));
    expect(choose({ ...shapes, 'a.weight': [64, 64] }, { facts, ignore: ['re:.*experts.*'] }).quantized.size).toBe(1);
  });

  test('transposed linear layers are refused too', () => {
    const facts = { ...llama, modelType: 'gpt2' };
    expect(() => choose({ 'h.0.attn.c_attn.weight': [256, 768] }, { facts })).toThrow('transposed');
  });
});

describe('the ignore list', () => {
  const preferred = alwaysIgnored(schemeOf('fp8-dynamic'));
  const many = (count: number, name: (i: number) => string) => Array.from({ length: count }, (_, i) => name(i));

  test('keeps what holds, and says the rest in the fewest exact endings', () => {
    const quantized = many(12, (i) => `model.layers.${i}.mlp.up_proj`);
    const left = ['model.embed_tokens', ...many(12, (i) => `model.layers.${i}.self_attn.q_proj`), 'model.layers.1.extra.up_proj'];
    const list = ignoreList(quantized, left, preferred);
    expect(list).toEqual(['re:.*lm_head$', 're:.*embed_tokens$', 're:.*q_proj$', 're:.*extra\\.up_proj$']);
    expect(disagreements(list, quantized, left)).toEqual([]);
  });

  test('never matches what was quantized, also where one number ends like another', () => {
    const names = many(21, (i) => `model.layers.${i}.mlp.up_proj`);
    const left = names.filter((_, i) => i === 0 || i === 2);
    const quantized = names.filter((name) => !left.includes(name));
    const list = ignoreList(quantized, left, preferred);
    expect(list).toEqual(['re:.*lm_head$', 're:.*layers\\.0\\.mlp\\.up_proj$', 're:.*layers\\.2\\.mlp\\.up_proj$']);
    expect(disagreements(list, quantized, left)).toEqual([]);
  });

  test('names a module in full where nothing shorter holds', () => {
    const list = ignoreList(['x.a', 'x.ba'], ['a'], []);
    expect(list).toEqual(['a']);
    expect(disagreements(list, ['x.a', 'x.ba'], ['a'])).toEqual([]);
  });

  test('is for experts one line, however many there are', () => {
    const experts = (layer: number) => many(64, (i) => `model.layers.${layer}.mlp.experts.${i}.up_proj`);
    expect(ignoreList(experts(0), experts(1), [])).toEqual(['re:.*layers\\.1\\.mlp\\.experts\\.\\d+\\.up_proj$']);
  });

  test('that disagrees is told', () => {
    expect(disagreements(['re:.*a$'], ['xa'], ['b'])).toEqual(['b was left but is not ignored', 'xa was quantized but is ignored']);
  });
});
