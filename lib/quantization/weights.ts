import { StepError } from '../errors.ts';
import type { StoredTensor } from '../safetensors/header.ts';

/** A tensor of a model, and the file that holds it. */
export interface ModelTensor extends StoredTensor {
  file: string;
}

/** The weight of one module: a tensor, or a part of one that holds many. */
export interface Weight {
  module: string;
  tensor: ModelTensor;
  shape: readonly number[];
  /** Its first byte, counted from the file's start. */
  offset: number;
  /** Bytes. */
  size: number;
}

/** What config.json says that matters here, of the text model where a model has several parts. */
export interface ModelFacts {
  modelType: string | undefined;
  hiddenSize: number | undefined;
  vocabSize: number | undefined;
}

const floats: readonly string[] = ['BF16', 'F16', 'F32', 'F64'];
/** Names under which quantized checkpoints keep codes and scales (GPTQ, AWQ, compressed-tensors, MXFP4 of gpt-oss). */
const quantizedParts = /(^|[._])(weight|qweight|qzeros|weight_packed|blocks|scales|scale_inv)$/;
/** Checkpoints of these keep a linear layer's weight as [in, out] (transformers, `Conv1D`): their rows are not what a scale is for. */
const transposedLinears: readonly (string | undefined)[] = ['gpt2', 'openai-gpt', 'imagegpt', 'decision_transformer'];
/** Their fused experts are interleaved or transposed, whatever their shape. */
const strangeExperts: readonly (string | undefined)[] = ['gpt_oss', 'llama4', 'llama4_text'];

/**
 * The weights with two dimensions and more of a whole model, those of experts that share a tensor one by one: gate_up_proj [E,2I,H] is gate and up of each expert,
 * down_proj [E,H,I]. `keep`: modules that stay as they are anyway. Throws `refused` on checkpoints that are quantized already, and on
 * layouts of which it is not known which rows belong together.
 */
export function weightsOf(tensors: readonly ModelTensor[], facts: ModelFacts, keep: (module: string) => boolean): Weight[] {
  const quantized = tensors.find(({ name, dtype }) => quantizedParts.test(name) && /^(F8|F6|F4|I8|U8|I16|U16|I32|U32)/.test(dtype));
  if (quantized) throw refuse(`${quantized.name} is ${quantized.dtype}: the model is quantized already`);
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  return tensors
    .flatMap((tensor) => {
      const module = tensor.name.replace(/\.weight$/, '');
      if (tensor.shape.length < 2) return [];
      const whole = { module, tensor, shape: tensor.shape, offset: tensor.offset, size: tensor.size };
      const [, stem, part = ''] = /^(.*\bexperts)\.(.+?)(?:\.weight)?$/.exec(tensor.name) ?? [];
      if (stem === undefined || !floats.includes(tensor.dtype)) return module === tensor.name ? [] : [whole];
      if (keep(module)) return [whole];
      if (/^\d+\./.test(part) && tensor.shape.length === 2 && module !== tensor.name) return [whole];
      if ((part === 'gate_up_proj' || part === 'down_proj') && tensor.shape.length === 3) {
        checkExperts(stem, byName, facts);
        return splitExperts(stem, part, tensor);
      }
      throw refuse(`${tensor.name} [${tensor.shape.join(',')}] holds experts in a layout that is not known`);
    })
    .map((weight) => {
      if (transposedLinears.includes(facts.modelType) && /\.c_(attn|proj|fc)$/.test(weight.module)) {
        throw refuse(`a ${facts.modelType} model keeps its linear weights transposed`);
      }
      return weight;
    });
}

/** Both tensors together tell a layout from its transpose, also where one of them is square. */
function checkExperts(stem: string, byName: ReadonlyMap<string, ModelTensor>, { modelType, hiddenSize }: ModelFacts): void {
  const find = (part: string) => byName.get(`${stem}.${part}`) ?? byName.get(`${stem}.${part}.weight`);
  const [gateUp, down] = [find('gate_up_proj'), find('down_proj')];
  const [experts, twice, hidden] = gateUp?.shape ?? [];
  const [sameExperts, sameHidden, half] = down?.shape ?? [];
  const fits = experts === sameExperts && hidden === hiddenSize && sameHidden === hiddenSize && half !== undefined && twice === 2 * half;
  if (fits && hidden !== undefined && !strangeExperts.includes(modelType)) return;
  const shapes = `gate_up_proj [${gateUp?.shape.join(',') ?? ''}], down_proj [${down?.shape.join(',') ?? ''}]`;
  const why = strangeExperts.includes(modelType) ? `of a ${modelType} model are` : `(${shapes}) look`;
  throw refuse(`the fused experts ${stem} ${why} interleaved or transposed`);
}

function splitExperts(stem: string, part: string, tensor: ModelTensor): Weight[] {
  const [experts = 0, rows = 0, cols = 0] = tensor.shape;
  const parts = part === 'gate_up_proj' ? ['gate_proj', 'up_proj'] : ['down_proj'];
  const shape = [rows / parts.length, cols];
  const size = tensor.size / (experts * parts.length);
  return Array.from({ length: experts }, (_, expert) =>
    parts.map((name, index) => ({
      module: `${stem}.${expert}.${name}`,
      tensor,
      shape,
      offset: tensor.offset + (expert * parts.length + index) * size,
      size,
    })),
  ).flat();
}

function refuse(why: string): StepError {
  return new StepError('refused', `failed to compress the model: ${why}`, {
    hint: 'take the model as it was trained, leave such modules out with --ignore, or take --method none',
  });
}
