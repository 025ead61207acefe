import { FakeHub } from '../fakes/hub.ts';
import { filesOf } from './data-sets.ts';
import { inFrontOf } from './front.ts';
import type { HubArguments } from './servers.ts';

/** The Hub of the benchmark as a program: its files are generated as they are read. argv: JSON of HubArguments. Prints its origin. */
async function main(): Promise<void> {
  const { sets, link } = JSON.parse(process.argv[2] ?? '') as HubArguments;
  const hub = new FakeHub();
  for (const set of sets) hub.addRepo({ id: set.repo, files: filesOf(set) });
  for (const server of [hub.hub, hub.cdn]) server.forgetRequests();
  await hub.listen({ front: link && ((server) => inFrontOf(server, link)) });
  process.stdout.write(`${hub.origin}\n`);
}

void main();
