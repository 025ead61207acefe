import { partsOf, planLine, sum, type Terms, termsJson, termsLine, usefulPods } from '../dry-run.ts';
import type { Expected } from '../integrity.ts';
import type { StoreLimits } from '../store.ts';
import { type Cutting, partSizeFor } from './part-size.ts';
import type { PublishPlan } from './publish.ts';

/** What a plan says besides: where the model comes from, and how it would be sent. */
export interface PlanFacts {
  /** Repository and commit. */
  source: { repo: string; commit: string };
  terms: Terms;
  cut: Cutting;
  limits: StoreLimits;
}

/** A plan as text for people, or as one line of JSON for machines. */
export function showPlan(uri: string, plan: PublishPlan & PlanFacts, forPeople: boolean): string {
  const { unchanged, conflict, source, terms, cut, limits } = plan;
  const sums = { send: sum(plan.send), copy: sum(plan.copy), keep: sum(plan.right) };
  const parts = partsOf(plan.send, (size) => partSizeFor(size, cut, limits));
  const pods = usefulPods(plan.send);
  if (!forPeople) {
    const doing = (action: string, files: readonly Expected[]) => files.map(({ path, size }) => ({ path, size, action }));
    const files = [...doing('send', plan.send), ...doing('copy', plan.copy), ...doing('keep', plan.right)];
    const told = { uri, model: source.repo, commit: source.commit, ...termsJson(terms), unchanged, conflict: conflict ?? null };
    return `${JSON.stringify({ ...told, ...sums, parts, pods, delete: plan.delete, files })}\n`;
  }
  const lines = [
    `${uri}${unchanged ? ' is published already: nothing to do' : ''}`,
    ...(conflict ? [planLine('refused', `${conflict} (--replace overrides)`)] : []),
    planLine('from', `${source.repo} at ${source.commit}`),
    termsLine(terms),
    planLine('to send', sums.send),
    planLine('to copy', sums.copy),
    planLine('to keep', sums.keep),
    ...(plan.delete.length > 0 ? [planLine('to delete', plan.delete.join(', '))] : []),
    ...(plan.send.length > 0
      ? [planLine('in', `${parts} parts, ${pods === 1 ? 'by one pod' : `which up to ${pods} pods could share`}`)]
      : []),
  ];
  return `${lines.join('\n')}\n`;
}
