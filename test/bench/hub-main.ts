import { FakeHub } from '../fakes/hub.ts';
import { type DataSet, filesOf } from './data-sets.ts';

/**
 * The Hub of the benchmark as a program: its files are generated as they are read. argv: a JSON list of data sets. Prints its origin and its CDN's.
 * Env PUBLIC_CDN_URL: where clients reach the CDN, when that is through a slow link.
 */
async function main(): Promise<void> {
  const hub = new FakeHub({ ...(process.env.PUBLIC_CDN_URL && { publicCdnUrl: process.env.PUBLIC_CDN_URL }) });
  for (const set of JSON.parse(process.argv[2] ?? '[]') as DataSet[]) hub.addRepo({ id: set.repo, files: filesOf(set) });
  for (const server of [hub.hub, hub.cdn]) server.forgetRequests();
  await hub.listen({ cdnPort: Number(process.env.CDN_PORT || 0) });
  process.stdout.write(`${JSON.stringify({ origin: hub.origin, cdn: hub.cdn.origin })}\n`);
}

void main();
