import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { FakeHub } from '../fakes/hub.ts';
import { benchSource, makeModel } from './compress.ts';
import { type Cost, measure, medianCost } from './measure.ts';
import { type Servers, startServers } from './servers.ts';
import { mebibytes, seconds } from './table.ts';

export const fuseHead = ['method', 'command', 'wall s', 'CPU s', 'peak MiB'];

const methods = ['fp8-dynamic', 'w4a16'] as const;

export interface FuseBench {
  /** Where bundleServers put the servers. */
  root: string;
  programs: string;
  runs: number;
  say: (line: string) => void;
}

/** 1.02 GB of bfloat16 Llama made smaller and published, by two steps and by one, from a folder and from a Hub in this process; medians, in turn. */
export async function fuseRows({ root, programs, runs, say }: FuseBench): Promise<string[][]> {
  const workspace = join(root, 'fuse');
  const filesDir = await makeModel(workspace);
  const dir = join(filesDir, '..');
  const hub = await new FakeHub().listen();
  const names = await readdir(filesDir);
  hub.addRepo({
    id: benchSource.repo,
    files: new Map(await Promise.all(names.map(async (name) => [name, await readFile(join(filesDir, name))] as const))),
  });
  const run = async (servers: Servers, program: string, flags: readonly string[], manifest?: string): Promise<Cost> => {
    const { accessKeyId, secretAccessKey } = servers.credentials;
    const env = {
      PATH: process.env.PATH,
      S3_BUCKET: servers.bucket,
      S3_ENDPOINT: servers.s3,
      AWS_ACCESS_KEY_ID: accessKeyId,
      AWS_SECRET_ACCESS_KEY: secretAccessKey,
      LOG_LEVEL: 'warn',
      ...(manifest && { WORKSPACE: workspace, MANIFEST: manifest }),
    };
    return await measure([process.execPath, join(programs, `${program}.cjs`), ...flags], env, join(root, 'log'));
  };
  const ways: Record<string, (servers: Servers, method: string) => Promise<Cost>> = {
    'compress && upload': async (servers, method) => {
      const made = await run(servers, 'compress', ['--method', method], join(dir, 'manifest.json'));
      const sent = await run(servers, 'upload', [], join(`${dir}-${method}`, 'manifest.json'));
      const [peak, maxrss] = [Math.max(made.peak, sent.peak), Math.max(made.maxrss, sent.maxrss)];
      return { wall: made.wall + sent.wall, cpu: made.cpu + sent.cpu, peak, maxrss };
    },
    'compress --fuse-upload': (servers, method) =>
      run(servers, 'compress', ['--method', method, '--fuse-upload'], join(dir, 'manifest.json')),
    'sync --method': (servers, method) =>
      run(servers, 'sync', ['--method', method, '--model-id', benchSource.repo, '--hub-url', hub.origin]),
  };
  try {
    const rows: string[][] = [];
    for (const method of methods) {
      const costs = new Map(Object.keys(ways).map((way) => [way, [] as Cost[]]));
      for (let round = 0; round <= runs; round += 1) {
        for (const [way, work] of Object.entries(ways)) {
          await rm(`${dir}-${method}`, { recursive: true, force: true });
          // Each finds an empty store.
          const servers = await startServers(root, []);
          const cost = await work(servers, method).finally(() => servers.stop());
          if (round > 0) costs.get(way)?.push(cost);
          say(`${way} ${method}: wall ${cost.wall.toFixed(2)} s, CPU ${cost.cpu.toFixed(2)} s${round === 0 ? ' (warm-up)' : ''}`);
        }
      }
      for (const [way, found] of costs) {
        const cost = medianCost(found);
        rows.push([method, `modelferry ${way}`, seconds(cost.wall), seconds(cost.cpu), mebibytes(cost.peak)]);
      }
    }
    return rows;
  } finally {
    await hub.close();
  }
}
