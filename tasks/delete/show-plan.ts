import { planLine, type Sum } from '../../lib/dry-run.ts';
import { oneLine } from '../../lib/errors.ts';

export interface DeletePlan {
  /** Place in the store; null when nothing there would go. */
  uri: string | null;
  /** What would go from there. */
  store: Sum;
  /** Keys there that are not ours: they stay. */
  foreign: readonly string[];
  /** What would go from this machine. */
  folders: readonly (Sum & { folder: string })[];
}

/** What a delete would take away, as text for people, or as one line of JSON for machines. */
export function showPlan(plan: DeletePlan, forPeople: boolean): string {
  if (!forPeople) return `${JSON.stringify(plan)}\n`;
  const { uri, store, foreign, folders } = plan;
  const stays = foreign.length === 1 ? '1 object that is not ours' : `${foreign.length} objects that are not ours`;
  const lines = [
    ...(uri === null ? [] : [oneLine(uri), planLine('to delete', store), ...(foreign.length > 0 ? [planLine('to stay', stays)] : [])]),
    ...folders.flatMap(({ folder, ...sum }) => [oneLine(folder), planLine('to delete', sum)]),
  ];
  return `${lines.join('\n')}\n`;
}
