import type { Store } from '../store.ts';
import { type ClaimRecord, parseClaim } from './claim-record.ts';

/** Where the records of a plan's shards lie, with a slash at its end. */
export function shardsFolder(planKey: string): string {
  return planKey.replace(/\.json$/, '/');
}

const claimEnd = '.claim.json';

/** Claim of one shard: it names the shard's own uploads, so that no shard ever writes where another one does. `shard` as `0/4`. */
export function shardClaimKey(planKey: string, shard: string): string {
  return `${shardsFolder(planKey)}${shard.replace('/', '-of-')}${claimEnd}`;
}

/** The keys of all claims of a plan's shards. */
export async function shardClaimKeys(store: Store, planKey: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of store.list(shardsFolder(planKey))) if (key.endsWith(claimEnd)) keys.push(key);
  return keys;
}

/** A plan's claim with all that its shards' claims name in it: what its next holder goes on with or aborts. Any other claim as it is. */
export async function withShardClaims(store: Store, record: ClaimRecord): Promise<ClaimRecord> {
  if (record.plan === undefined) return record;
  const keys = new Set(record.keys);
  const uploads = { ...record.uploads };
  for (const key of await shardClaimKeys(store, record.plan.key)) {
    const found = await store.get(key);
    const shard = found && parseClaim(found.bytes);
    for (const each of shard?.keys ?? []) keys.add(each);
    Object.assign(uploads, shard?.uploads);
  }
  return { ...record, keys: [...keys].sort(), uploads };
}
