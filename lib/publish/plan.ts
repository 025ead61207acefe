import type { Expected } from '../integrity.ts';
import { showBytes } from '../units.ts';
import type { PublishPlan } from './publish.ts';

/** A plan as text for people, or as one line of JSON for machines. */
export function showPlan(uri: string, plan: PublishPlan, forPeople: boolean): string {
  const sum = (files: readonly Expected[]) => ({ files: files.length, bytes: files.reduce((total, file) => total + file.size, 0) });
  const { unchanged, conflict } = plan;
  const sums = { send: sum(plan.send), copy: sum(plan.copy), keep: sum(plan.right) };
  if (!forPeople) return `${JSON.stringify({ uri, unchanged, conflict: conflict ?? null, ...sums, delete: plan.delete })}\n`;
  const line = (verb: string, { files, bytes }: { files: number; bytes: number }) =>
    `  ${verb.padEnd(8)} ${files} files, ${showBytes(bytes)}`;
  const lines = [
    `${uri}${unchanged ? ' is published already: nothing to do' : ''}`,
    ...(conflict ? [`  refused: ${conflict} (--replace overrides)`] : []),
    line('to send', sums.send),
    line('to copy', sums.copy),
    line('to keep', sums.keep),
    ...(plan.delete.length > 0 ? [`  to delete ${plan.delete.join(', ')}`] : []),
  ];
  return `${lines.join('\n')}\n`;
}
