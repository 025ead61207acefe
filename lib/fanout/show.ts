import { sizeOf } from '../publish/bring.ts';
import { showBytes } from '../units.ts';
import { shardNames } from './place.ts';
import type { Plan } from './record.ts';

/** What a dry run says of publishing, with what each shard is to bring: as text for people, or as one line of JSON for machines. */
export function withShards(shown: string, { shards }: Plan, forPeople: boolean): string {
  const names = shardNames(shards.length);
  const sums = shards.map((files, index) => ({ shard: names[index] ?? '', files: files.length, bytes: sizeOf(files) }));
  if (!forPeople) return `${JSON.stringify({ ...(JSON.parse(shown) as object), shards: sums })}\n`;
  const lines = sums.map(({ shard, files, bytes }) => `  shard ${shard.padEnd(6)} ${files} files, ${showBytes(bytes)}\n`);
  return shown + lines.join('');
}
