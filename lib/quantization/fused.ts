import type { Scheme } from './schemes.ts';
import type { Weight } from './weights.ts';

/** Modules that vLLM loads into one layer, in the order in which it stacks their rows (vllm 0.33.0, `packed_modules_mapping` of its models). */
const families: readonly (readonly string[])[] = [
  ['q_proj', 'k_proj', 'v_proj'],
  ['query', 'key', 'value'],
  ['gate_proj', 'up_proj'],
  ['w1', 'w3'],
  ['q_a_proj', 'kv_a_proj_with_mqa'],
  ['in_proj_qkv', 'in_proj_z'],
  ['in_proj_b', 'in_proj_a'],
];

const familyOf = new Map(families.flatMap((family) => family.map((part) => [part, family] as const)));

/** Names the set that a module's weight shares a layer with: equal for all of it. A module that stands alone is its own set. */
export function fusedSetOf(module: string): string {
  const at = module.lastIndexOf('.');
  const family = familyOf.get(module.slice(at + 1));
  return family === undefined ? module : `${module.slice(0, at + 1)}${family.join('+')}`;
}

/** Names the experts of a layer, which a server runs as one: equal for all of them; undefined for a module that is no expert. */
export function expertsOf(module: string): string | undefined {
  return /^(.*\bexperts)\.\d+\./.exec(module)?.[1];
}

/** Why a weight that fits the scheme by itself does not fit as a part of its layer; undefined when it does. */
export function fitsFused(scheme: Scheme, { module, shape }: Weight, setSize: number): string | undefined {
  const { groupRows } = scheme;
  const [rows = 0, cols = 0] = shape;
  const part = module.slice(module.lastIndexOf('.') + 1);
  if (groupRows === 1) return undefined;
  const fault = (count: number, what: string, why: string) =>
    count % groupRows === 0 ? undefined : `its ${count} ${what} are not a multiple of ${groupRows}, ${why}`;
  // Blocks of the next part begin where a block begins: only the last part may end inside of one.
  const last = familyOf.get(part)?.at(-1) === part;
  if (expertsOf(module) !== undefined) {
    return setSize > 1 ? fault(rows, 'rows', 'as those of experts must be') : fault(cols, 'columns', 'as those of experts must be');
  }
  return setSize > 1 && !last ? fault(rows, 'rows', 'and others follow in the same layer') : undefined;
}
