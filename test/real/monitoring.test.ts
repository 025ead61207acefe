import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { report } from '../../lib/metrics.ts';
import { commands, runPython } from './programs.ts';

const dashboard = join(import.meta.dirname, '../../workflows/grafana/fetch-dashboard.json');
const quiet = { log: { warn: (_: object, text: string) => expect.fail(text) }, signal: new AbortController().signal } as never;
/** Debian has them as prometheus, prometheus-node-exporter and prometheus-pushgateway. */
const found = commands('prometheus', 'promtool', 'prometheus-node-exporter', 'prometheus-pushgateway');
if (!found) process.stdout.write('skipped: prometheus, its node exporter and Pushgateway are not all on the PATH\n');

interface Panel {
  title: string;
  targets: { expr: string }[];
}

let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'monitoring-'));
});
afterAll(async () => await rm(dir, { recursive: true, force: true }));

const brought = { model: 'acme/"odd" \\name', source: 's3', missed: ['local'], bytes: 1000, seconds: 2 } as const;

test("the file is what Prometheus's own parser reads", async () => {
  const file = join(dir, 'modelferry.prom');
  for (const sample of [brought, brought, { ...brought, source: undefined, missed: ['local', 's3', 'hub'] as const }])
    await report(sample, { file }, quiet);
  const families = await runPython<{ name: string; type: string; samples: [string, Record<string, string>, number][] }[]>(
    'prometheus_parse.py',
    [file],
    {},
  );
  expect(families.map(({ name, type }) => `${type} ${name}`).sort()).toEqual([
    'counter modelferry_fetch_bytes',
    'counter modelferry_fetch_failures',
    'counter modelferry_fetch_lookups',
    'counter modelferry_fetch_seconds',
    'gauge modelferry_fetch_last_timestamp_seconds',
  ]);
  const samples = families.flatMap((family) => family.samples);
  expect(samples).toContainEqual(['modelferry_fetch_bytes_total', { model: brought.model, source: 's3' }, 2000]);
  expect(samples).toContainEqual(['modelferry_fetch_failures_total', { model: brought.model }, 1]);
});

describe.skipIf(!found)('the dashboard', () => {
  const running: ChildProcess[] = [];
  const origins: Record<string, string> = {};
  let panels: Panel[];
  const start = async (name: keyof NonNullable<typeof found>, ...argv: string[]) => {
    const address = `127.0.0.1:${await freePort()}`;
    running.push(spawn(found?.[name] ?? '', [`--web.listen-address=${address}`, ...argv], { cwd: dir, stdio: 'ignore' }));
    origins[name] = `http://${address}`;
    return address;
  };
  beforeAll(async () => {
    ({ panels } = JSON.parse(await readFile(dashboard, 'utf8')) as { panels: Panel[] });
    const exporter = await start(
      'prometheus-node-exporter',
      '--collector.disable-defaults',
      '--collector.textfile',
      `--collector.textfile.directory=${dir}`,
    );
    const gateway = await start('prometheus-pushgateway');
    const jobs = [
      { job_name: 'node', static_configs: [{ targets: [exporter] }] },
      { job_name: 'push', honor_labels: true, static_configs: [{ targets: [gateway] }] },
    ];
    await writeFile(join(dir, 'prometheus.yml'), JSON.stringify({ global: { scrape_interval: '1s' }, scrape_configs: jobs }));
    await rm(join(dir, 'modelferry.prom'), { force: true });
    await start('prometheus', '--config.file=prometheus.yml', `--storage.tsdb.path=${join(dir, 'data')}`);
  });
  afterAll(async () => {
    const ended = running.map((child) => new Promise((resolve) => child.on('close', resolve)));
    for (const child of running) child.kill();
    await Promise.all(ended);
  });

  const ask = async (expr: string): Promise<Record<string, number>> => {
    const query = expr.replaceAll('$__range', '5m').replaceAll('$__interval', '5m').replaceAll('$model', '.*');
    const answer = await globalThis.fetch(`${origins.prometheus}/api/v1/query?query=${encodeURIComponent(query)}`);
    const { data, error } = (await answer.json()) as {
      data?: { result: { metric: { source?: string }; value: [number, string] }[] };
      error?: string;
    };
    expect(error).toBeUndefined();
    return Object.fromEntries(data?.result.map(({ metric, value }) => [metric.source ?? '', Number(value[1])]) ?? []);
  };
  const panel = async (title: string) => await ask(panels.find((each) => each.title === title)?.targets[0]?.expr ?? '');
  const scraped = async (fetches: number) => {
    await expect
      .poll(async () => (await panel('Fetches').catch((): Record<string, number> => ({})))[''], { timeout: 60_000, interval: 200 })
      .toBe(fetches);
  };

  test('counts every fetch of a node, the first one too, and every run that was pushed', async () => {
    const file = join(dir, 'modelferry.prom');
    await report(brought, { file }, quiet);
    await scraped(1);
    await report(brought, { file, pushUrl: origins['prometheus-pushgateway'] }, quiet);
    await report({ ...brought, source: 'local', missed: [], bytes: 0, seconds: 1 }, { file }, quiet);
    await report({ ...brought, source: undefined, missed: ['local', 's3'] }, { file }, quiet);
    await scraped(4);
    expect(await panel('Failures')).toEqual({ '': 1 });
    expect(await panel('Brought')).toEqual({ '': 3000 });
    expect(await panel('Without the Hub')).toEqual({ '': 1 });
    expect(await panel('Hits by source')).toEqual({ local: 1, s3: 3 });
    expect(await panel('Misses by source')).toEqual({ local: 4, s3: 1 });
    expect(await panel('Bytes by source')).toEqual({ local: 0, s3: 3000 });
    expect(await panel('Seconds of a fetch')).toEqual({ local: 1, s3: 2 });
    expect(await panel('Throughput')).toEqual({ s3: 500 });
    expect((await panel('Since the last fetch'))['']).toBeLessThan(120);
  });

  test('promtool has nothing against the file', async () => {
    const checked = spawn(found?.promtool ?? '', ['check', 'metrics'], { stdio: ['pipe', 'ignore', 'pipe'] });
    let said = '';
    checked.stderr.on('data', (chunk) => {
      said += String(chunk);
    });
    checked.stdin.end(await readFile(join(dir, 'modelferry.prom')));
    const code = await new Promise((resolve) => checked.on('close', resolve));
    expect({ code, said }).toEqual({ code: 0, said: '' });
  });
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === 'object' && address !== null ? address.port : 0;
}
