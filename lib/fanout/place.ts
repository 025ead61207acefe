import { StepError } from '../errors.ts';

const planPattern = /^(.+)\/([0-9a-f]{40})\.json$/;

/** Where a plan's record lies (design section 6). */
export function planKey(controlPrefix: string, prefix: string, commit: string): string {
  return `${controlPrefix}/plans/${prefix}/${commit}.json`;
}

export interface PlanPlace {
  key: string;
  /** Of the model that it brings. */
  prefix: string;
  commit: string;
}

/** What a plan's key says. Throws `usage` when it is none. */
export function placeOf(controlPrefix: string, key: string): PlanPlace {
  const start = `${controlPrefix}/plans/`;
  const found = key.startsWith(start) ? planPattern.exec(key.slice(start.length)) : null;
  const [, prefix, commit] = found ?? [];
  if (prefix === undefined || commit === undefined) {
    throw new StepError('usage', `failed to use --plan ${key}: it is no plan's key below ${start}`, {
      hint: "give plan's result `plan`, and the --control-prefix that it was made with",
    });
  }
  return { key, prefix, commit };
}

/** True for the records of every plan of that prefix, and for those of none below it. */
export function isPlanRecord(controlPrefix: string, prefix: string, key: string): boolean {
  const start = `${controlPrefix}/plans/${prefix}/`;
  return key.startsWith(start) && /^[0-9a-f]{40}(\.json$|\/)/.test(key.slice(start.length));
}

/** The plan that a record below `plans/` belongs to: its own, a report or claim of a shard, or what the Hub says; undefined for anything else. */
export function planOfRecord(controlPrefix: string, key: string): PlanPlace | undefined {
  const start = `${controlPrefix}/plans/`;
  // The longest prefix counts: one that ends in a commit has plans of its own.
  const found = key.startsWith(start) ? /^(.+)\/([0-9a-f]{40})(\.json|\/[^/]+)$/.exec(key.slice(start.length)) : null;
  const [, prefix, commit] = found ?? [];
  return prefix === undefined || commit === undefined ? undefined : { key: planKey(controlPrefix, prefix, commit), prefix, commit };
}

/** What else the Hub says, for the pod that publishes and has no Hub. */
export function sourceKey(key: string): string {
  return key.replace(/\.json$/, '/source.json');
}

/** A shard as the engines carry it. */
export interface ShardName {
  index: number;
  of: number;
}

/** All shards of a plan, as the engines carry them. */
export function shardNames(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${index}/${count}`);
}

/** Reads `0/4`. Throws `usage` when it is no shard. */
export function parseShard(text: string): ShardName {
  const [, index, of] = /^(0|[1-9]\d{0,3})\/([1-9]\d{0,3})$/.exec(text) ?? [];
  if (index === undefined || of === undefined || Number(index) >= Number(of)) {
    const hint = 'give one of the shards that plan names: 0/4, 1/4, 2/4 and 3/4 where there are four';
    throw new StepError('usage', `failed to use --shard ${text}: it is no shard such as 0/4`, { hint });
  }
  return { index: Number(index), of: Number(of) };
}
