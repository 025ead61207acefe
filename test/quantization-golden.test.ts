import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { type Arithmetic, maxAbs, quantizeRows } from '../lib/quantization/kernel.ts';
import { fixedValue, outputsOf } from '../lib/quantization/outputs.ts';
import { globalScaleOf } from '../lib/quantization/scales.ts';
import { fits, quantizationConfig, rowBlock, type Scheme, schemeOf } from '../lib/quantization/schemes.ts';
import { type CheckpointName, type CheckpointTensor, checkpoints, checkpointTensors } from './fakes/model/checkpoints.ts';
import { type Config, type Digests, expected, golden } from './golden/answers.ts';

const schemes: Record<string, Scheme> = {
  FP8_DYNAMIC: schemeOf('fp8-dynamic'),
  FP8_BLOCK: schemeOf('fp8-block'),
  W8A8: schemeOf('w8a8'),
  W8A16: schemeOf('w8a16'),
  W4A16: schemeOf('w4a16'),
  W4A16_ASYM: schemeOf('w4a16-asym'),
  NVFP4A16: schemeOf('nvfp4a16'),
  MXFP4A16: schemeOf('mxfp4a16'),
  MXFP4: schemeOf('mxfp4'),
  W8A16_CHANNEL: schemeOf('w8a16', { groupSize: -1 }),
  W4A16_CHANNEL: schemeOf('w4a16', { groupSize: -1 }),
  W4A16_G32: schemeOf('w4a16', { groupSize: 32 }),
  // No method of ours, but the same arithmetic.
  W8A16_ASYM: { ...schemeOf('w4a16-asym'), id: 'w8a16-asym', code: 'int8' },
};

const made = new Map<CheckpointName, Map<string, CheckpointTensor>>();
function tensorsOf(name: CheckpointName): Map<string, CheckpointTensor> {
  const known = made.get(name) ?? new Map(checkpointTensors(name).map((tensor) => [tensor.name, tensor]));
  made.set(name, known);
  return known;
}

const digest = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex').slice(0, 16);
const linear = ({ name, shape }: CheckpointTensor) => shape.length === 2 && !/(lm_head|embed_tokens|mlp\.gate)\.weight$/.test(name);

/** The weights that share NVFP4's scale of the whole tensor: the reference does not fuse experts. */
function fused(name: string): string[] {
  const [, stem, part] = /^(.*)\.([qkv])_proj\.weight$/.exec(name) ?? /^(.*mlp)\.(gate|up)_proj\.weight$/.exec(name) ?? [];
  if (stem === undefined) return [name];
  return (part!.length === 1 ? ['q', 'k', 'v'] : ['gate', 'up']).map((each) => `${stem}.${each}_proj.weight`);
}

/** All tensors that a checkpoint's weights become, row block by row block; the blocks' sizes change from one to the next. */
function quantized(name: CheckpointName, scheme: Scheme, arithmetic: Arithmetic): Digests {
  const tensors = tensorsOf(name);
  const result: Digests = {};
  for (const tensor of [...tensors.values()].filter(linear)) {
    const { dtype, bytes, shape } = tensor;
    const [rows, cols] = shape as [number, number];
    const largest = fused(tensor.name).map((each) => maxAbs(tensors.get(each)!.bytes, dtype));
    const globalScale = globalScaleOf(Math.max(...largest), dtype);
    const outputs = outputsOf(scheme, tensor.name.replace(/\.weight$/, ''), [rows, cols], dtype);
    // Filled, so that a byte that nobody writes is seen.
    const whole = outputs.map((output) => new Uint8Array(output.bytes).fill(0xa5));
    const rowBytes = bytes.length / rows;
    for (let [from, blocks] = [0, 1]; from < rows; blocks = (blocks * 2) % 63) {
      const end = Math.min(rows, from + blocks * rowBlock(scheme));
      const into = outputs.flatMap(({ perRow, rowBytes: size }, i) =>
        perRow === 0 ? [] : [whole[i]!.subarray((from / perRow) * size, Math.ceil(end / perRow) * size)],
      );
      const block = { bytes: bytes.subarray(from * rowBytes, end * rowBytes), dtype, rows: end - from, cols, arithmetic, globalScale };
      const fault = quantizeRows(scheme, block, into);
      if (fault) throw new Error(`${tensor.name}: ${JSON.stringify(fault)}`);
      from = end;
    }
    for (const [i, output] of outputs.entries()) {
      const data = output.perRow === 0 ? fixedValue(output, [rows, cols], globalScale) : whole[i]!;
      result[output.name] = [output.dtype, output.shape, digest(data)];
    }
  }
  return result;
}

describe('beside the reference', () => {
  test.each(Object.keys(checkpoints) as CheckpointName[])('%s is the checkpoint that it was given', (name) => {
    const ours = [...tensorsOf(name).values()].map(({ name, dtype, shape, bytes }) => [name, [dtype, shape, digest(bytes)]]);
    expect(Object.fromEntries(ours)).toEqual(golden.source[name]);
  });

  const answers = Object.entries(golden.reference);
  const parts = (key: string) => {
    const [, name, scheme, f32] = /^(.*)\/(.*?)(\.f32)?$/.exec(key)!;
    return { name: name as CheckpointName, scheme: schemes[scheme!]!, arithmetic: f32 ? ('f32' as const) : ('native' as const) };
  };

  test.each(answers.filter(([, { error }]) => error === undefined).map(([key]) => key))('%s: the same bytes', (key) => {
    const { name, scheme, arithmetic } = parts(key);
    expect(quantized(name, scheme, arithmetic)).toEqual(expected(key));
  });

  test.each(answers.filter(([, { error }]) => error?.includes("don't multiply up")).map(([key]) => key))('%s: does not fit', (key) => {
    const { name, scheme } = parts(key);
    const refused = [...tensorsOf(name).values()].filter(linear).filter(({ shape }) => fits(scheme, shape) !== undefined);
    // The tensor that the reference stopped at, and others like it.
    expect(refused.map((tensor) => tensor.name)).toContain(/`(.*?)`/.exec(golden.reference[key]!.error!)![1]);
  });

  test.each(['native', 'f32'] as const)('NVFP4 of shards that cut a fused set, which it refuses: as of one file (%s)', (arithmetic) => {
    expect(golden.reference['llama-bf16-sharded/NVFP4A16']!.error).toContain('before completing set');
    expect(quantized('llama-bf16-sharded', schemes.NVFP4A16!, arithmetic)).toEqual(expected('llama-bf16/NVFP4A16'));
  });

  test('no answer is left out', () => {
    const kinds = answers.map(([, { error }]) => (error === undefined ? 'tensors' : error.includes("don't multiply up") ? 'shape' : 'set'));
    expect(Object.fromEntries(['tensors', 'shape', 'set'].map((kind) => [kind, kinds.filter((each) => each === kind).length]))).toEqual({
      tensors: 120,
      shape: 14,
      set: 2,
    });
  });

  test.each(Object.keys(schemes))('%s: its quantization_config says the same in less words', (name) => {
    const { quantization_config: theirs } = golden.reference[`llama-bf16/${name}`]!;
    const ignore = ['re:.*lm_head$', 're:.*embed_tokens$', 're:.*mlp\\.gate$'];
    const ours = quantizationConfig(schemes[name]!, ignore);
    // What each key means when it is not there (compressed-tensors, QuantizationArgs).
    const defaults = { actorder: null, block_structure: null, group_size: null, observer: null, observer_kwargs: {}, scale_dtype: null };
    const full = (args: object | undefined | null) => (args ? { ...defaults, ...args, zp_dtype: undefined } : null);
    const [group] = Object.values((theirs as Config).config_groups);
    const { targets, weights, input_activations: inputs } = ours.config_groups.group_0;
    expect({ targets, weights: full(weights), inputs: full(inputs) }).toEqual({
      targets: group!.targets,
      weights: full(group!.weights),
      inputs: full(group!.input_activations),
    });
    const { config_groups: _, ...rest } = ours;
    expect(theirs).toMatchObject(rest);
  });
});
