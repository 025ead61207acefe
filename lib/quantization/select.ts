import { StepError } from '../errors.ts';
import { expertsOf, fitsFused, fusedSetOf } from './fused.ts';
import { type Pattern, patternOf } from './patterns.ts';
import { fits, rowBlock, type Scheme } from './schemes.ts';
import type { ModelFacts, Weight } from './weights.ts';

/** Which weights a scheme is for. */
export interface Choice {
  /** Patterns of modules that stay as they are, besides those that always do. */
  ignore: readonly Pattern[];
  /** Patterns of modules that are quantized; `Linear` is all of them. */
  targets: readonly Pattern[];
  /** Rows that must be quantized together may take so many bytes. */
  maxBlockBytes: number;
}

export interface Selected {
  /** By module. */
  quantized: ReadonlyMap<string, Weight>;
  /** Modules that stay as they are, and why. */
  left: ReadonlyMap<string, string>;
}

/**
 * What is no plain linear layer of the language model, or too small and too touchy to gain (a superset of what the examples of
 * llm-compressor ignore): heads, embeddings, routers, other modalities, convolutions, draft heads.
 */
const never: readonly string[] = [
  're:.*lm_head$',
  're:.*embed_tokens$',
  're:.*(wte|wpe|embeddings|word_embeddings)$',
  're:.*embed[^.]*$',
  're:.*(mlp|block_sparse_moe|feed_forward|moe|mixer)\\.gate$',
  're:.*\\.gate$',
  're:.*router.*',
  're:.*shared_expert_gate$',
  're:.*norm.*',
  're:.*(vision|visual).*',
  're:.*(multi_modal_projector|mm_projector|embed_vision|embed_audio|audio_tower).*',
  're:.*conv1d.*',
  're:^mtp\\..*',
  're:.*_latent_proj.*',
  're:.*eh_proj$',
  're:.*(score|classifier)$',
];
/** DeepSeek's and Kimi's: 576 rows are no multiple of 128, and one scale for both would serve neither. */
const neverWithBlocks: readonly string[] = ['re:.*kv_a_proj_with_mqa$', 're:.*q_a_proj$'];

/** How the reason begins where a module is left whatever is asked for. */
export const standing = 'is always left:';

/** The modules that a scheme always leaves as they are. */
export function alwaysIgnored({ method }: Scheme): Pattern[] {
  return readPatterns('ignore', method === 'fp8-block' || method === 'nvfp4a16' ? [...never, ...neverWithBlocks] : never);
}

/** Entries of --ignore or --targets. Throws one `usage` error that tells every one that cannot be used. */
export function readPatterns(flag: string, entries: readonly string[]): Pattern[] {
  const read = entries.map(patternOf);
  const faults = read.flatMap((each) => ('fault' in each ? [`${each.entry}: ${each.fault}`] : []));
  if (faults.length > 0) {
    throw new StepError('usage', `failed to read --${flag}: ${faults.join('; ')}`, {
      hint: 'a pattern is re: and a plain regular expression, and a list with commas in it is given as a JSON array',
    });
  }
  return read.filter((each) => 'matches' in each);
}

/** Chooses the weights that the scheme is for: whole sets that share a layer, or none of a set. */
export function select(
  weights: readonly Weight[],
  scheme: Scheme,
  { ignore, targets, maxBlockBytes }: Choice,
  facts: ModelFacts,
): Selected {
  const always = alwaysIgnored(scheme);
  const setSizes = Map.groupBy(weights, ({ module }) => fusedSetOf(module));
  const reasonFor = (weight: Weight): string | undefined => {
    const { module, tensor, shape } = weight;
    const ignored = ignore.find(({ matches }) => matches(module));
    if (ignored) return `--ignore ${ignored.entry}`;
    const usual = always.find(({ matches }) => matches(module));
    if (usual) return `${standing} ${usual.entry}`;
    if (!targets.some(({ entry, matches }) => entry === 'Linear' || matches(module))) return 'is not among --targets';
    if (shape.length !== 2) return `has ${shape.length} dimensions`;
    if (!['BF16', 'F16', 'F32'].includes(tensor.dtype)) return `is ${tensor.dtype}`;
    if (shape[0] === facts.vocabSize && !/(proj|dense|fc\d?|w\d|qkv)$/.test(module)) return 'has a row for each word of the vocabulary';
    const [rows = 0] = shape;
    if ((weight.size / rows) * Math.min(rows, rowBlock(scheme)) > maxBlockBytes) return 'has rows too long to hold';
    return fits(scheme, shape) ?? fitsFused(scheme, weight, setSizes.get(fusedSetOf(module))?.length ?? 1);
  };
  const left = new Map<string, string>();
  for (const weight of weights) {
    const reason = reasonFor(weight);
    if (reason !== undefined) left.set(weight.module, reason);
  }
  leaveWholeSets(weights, left);
  // In the order of the model, not in that of the reasons.
  const inOrder = weights.flatMap(({ module }) => (left.has(module) ? [[module, left.get(module) ?? ''] as const] : []));
  return {
    quantized: new Map(weights.filter(({ module }) => !left.has(module)).map((weight) => [weight.module, weight])),
    left: new Map(inOrder),
  };
}

/** Leaves a module when one that it shares a layer with is left, until nothing changes: sets within experts, and all experts of a layer. */
function leaveWholeSets(weights: readonly Weight[], left: Map<string, string>): void {
  const groups = [
    ...Map.groupBy(weights, ({ module }) => fusedSetOf(module)).values(),
    ...Map.groupBy(
      weights.filter(({ module }) => expertsOf(module) !== undefined),
      ({ module }) => expertsOf(module),
    ).values(),
  ].filter((group) => group.length > 1);
  for (let before = -1; before !== left.size; ) {
    before = left.size;
    for (const group of groups) {
      const [first] = group.filter(({ module }) => left.has(module));
      if (first === undefined) continue;
      for (const { module } of group) if (!left.has(module)) left.set(module, `goes with ${first.module}, which is left`);
    }
  }
}
