import { newFiles, type Plan } from '../../lib/compression/plan.ts';
import type { SourceModel } from '../../lib/compression/source-model.ts';
import { oneLine } from '../../lib/errors.ts';
import { showBytes } from '../../lib/units.ts';

/** Bytes of all files that the new model would have: known from headers alone. */
export function bytesAfter(plan: Plan, model: SourceModel): number {
  const sizes = [...plan.shards.map(({ layout }) => layout.size), ...model.others.map(({ size }) => size)];
  const small = [...newFiles(plan, model).values()].map(({ length }) => length);
  return [...sizes, ...small].reduce((sum, size) => sum + size, 0);
}

/** What compress would do, as text for people, or as one line of JSON for machines. */
export function showPlan(
  plan: Plan,
  model: SourceModel,
  { method, folder, totalBytes }: { method: string; folder: string; totalBytes: number },
  forPeople: boolean,
): string {
  const after = bytesAfter(plan, model);
  const { quantized, left } = plan.selected;
  const toWrite = plan.shards.reduce((sum, { layout }) => sum + layout.size, 0);
  if (!forPeople) {
    const shown = { method, folder, bytesBefore: totalBytes, bytesAfter: after, bytesToWrite: toWrite, quantized: quantized.size };
    return `${JSON.stringify({ ...shown, left: [...left].map(([module, reason]) => ({ module, reason })), ignore: plan.ignore, dropped: model.dropped })}\n`;
  }
  const reasons = Map.groupBy(left, ([, reason]) => reason);
  const lines = [
    `${method} into ${folder}`,
    `  before    ${showBytes(totalBytes)}`,
    `  after     ${showBytes(after)} (${((100 * after) / totalBytes).toFixed(0)} %)`,
    `  to write  ${showBytes(toWrite)}`,
    `  modules   ${quantized.size} quantized, ${left.size} left as they are`,
    '',
    ...[...reasons].map(([reason, modules]) => `${String(modules.length).padStart(8)}  ${oneLine(reason)}`),
    ...model.dropped.map((path) => ` not kept  ${oneLine(path)}`),
  ];
  return `${lines.join('\n')}\n`;
}
