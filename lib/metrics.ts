import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { messageOf, StepError } from './errors.ts';
import { readBody } from './http/answer.ts';
import { send } from './http/request.ts';
import { withLock } from './lock.ts';
import type { Log } from './log.ts';
import { retry } from './transfer/retry.ts';
import { writeAtomically } from './workspace.ts';

export type FetchSource = 'local' | 's3' | 'hub';

/** What one fetch did. */
export interface FetchSample {
  /** Repository, name or URI, as it was asked for. */
  model: string;
  /** Where it came from; undefined: it failed. */
  source: FetchSource | undefined;
  /** The sources that were asked before that and did not have it. */
  missed: readonly FetchSource[];
  bytes: number;
  seconds: number;
}

/** Name, type and help of each metric (Prometheus, "Metric and label naming": base units, _total on counters). */
const families = {
  modelferry_fetch_lookups_total: ['counter', 'Sources asked for a model, by outcome (hit or miss).'],
  modelferry_fetch_bytes_total: ['counter', 'Bytes brought, by source.'],
  modelferry_fetch_seconds_total: ['counter', 'Seconds that fetches took, by source.'],
  modelferry_fetch_failures_total: ['counter', 'Fetches that failed.'],
  modelferry_fetch_last_timestamp_seconds: ['gauge', 'When a fetch ended last, by source.'],
} as const;
type Family = keyof typeof families;

/** Values by family and labels, as they stand in a line: `{a="b"}`. */
type Values = Map<Family, Map<string, number>>;

export interface MetricsTargets {
  /** A .prom file for node_exporter's textfile collector: counters go on from what it holds. */
  file?: string | undefined;
  /** A Pushgateway: the values of this run alone, in the group of this host. */
  pushUrl?: string | undefined;
}

/** Tells a fetch to whoever measures. A failure is logged and passed over: a model that is there must not wait for metrics. */
export async function report(
  sample: FetchSample,
  { file, pushUrl }: MetricsTargets,
  { log, signal }: { log: Log; signal: AbortSignal },
): Promise<void> {
  const values = valuesOf(sample, Date.now() / 1000);
  const tell = async (what: string, work: () => Promise<void>) => {
    await work().catch((error: unknown) => log.warn({ error: messageOf(error) }, `metrics not ${what}`));
  };
  if (file !== undefined) {
    await tell('written', () =>
      withLock(`${file}.lock`, { log, signal, waitTimeout: 10_000, pollMs: 50 }, async () => {
        const before = await readFile(file, 'utf8').catch(() => '');
        await writeAtomically(file, textOf(added(parseText(before), values)));
      }),
    );
  }
  if (pushUrl !== undefined) await tell('pushed', () => push(pushUrl, textOf(values), log, signal));
}

function valuesOf({ model, source, missed, bytes, seconds }: FetchSample, now: number): Values {
  const values: Values = new Map();
  const set = (family: Family, labels: Record<string, string>, value: number) => {
    const line = `{${Object.entries({ model, ...labels })
      .map(([name, text]) => `${name}="${quotable(text)}"`)
      .join(',')}}`;
    values.set(family, (values.get(family) ?? new Map<string, number>()).set(line, value));
  };
  for (const each of missed) set('modelferry_fetch_lookups_total', { source: each, outcome: 'miss' }, 1);
  if (source === undefined) set('modelferry_fetch_failures_total', {}, 1);
  else {
    set('modelferry_fetch_lookups_total', { source, outcome: 'hit' }, 1);
    set('modelferry_fetch_bytes_total', { source }, bytes);
    set('modelferry_fetch_seconds_total', { source }, seconds);
    set('modelferry_fetch_last_timestamp_seconds', { source }, now);
  }
  return values;
}

/** Counters add up, gauges are the newest. */
function added(before: Values, now: Values): Values {
  for (const [family, lines] of now) {
    const known = before.get(family) ?? new Map<string, number>();
    before.set(family, known);
    for (const [labels, value] of lines) known.set(labels, families[family][0] === 'counter' ? (known.get(labels) ?? 0) + value : value);
  }
  return before;
}

/** The text format (Prometheus, "Exposition formats", version 0.0.4). */
function textOf(values: Values): string {
  return (Object.keys(families) as Family[])
    .filter((family) => values.has(family))
    .map((family) => {
      const [type, help] = families[family];
      const lines = [...(values.get(family) ?? [])].sort().map(([labels, value]) => `${family}${labels} ${value}\n`);
      return `# HELP ${family} ${help}\n# TYPE ${family} ${type}\n${lines.join('')}`;
    })
    .join('');
}

/** What we wrote before; lines of others are not kept. */
function parseText(text: string): Values {
  const values: Values = new Map();
  for (const line of text.split('\n')) {
    const [, family, labels = '', value] = /^([a-z_]+)(\{.*\}) ([-+.\deE]+)$/.exec(line) ?? [];
    if (family === undefined || !(family in families) || Number.isNaN(Number(value))) continue;
    values.set(family as Family, (values.get(family as Family) ?? new Map<string, number>()).set(labels, Number(value)));
  }
  return values;
}

function quotable(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

async function push(url: string, body: string, log: Log, signal: AbortSignal): Promise<void> {
  const base = url.replace(/\/+$/, '');
  const target = base.includes('/metrics/job/') ? base : `${base}/metrics/job/modelferry/instance/${encodeURIComponent(hostname())}`;
  await retry({ retries: 2, signal, log, what: 'push metrics' }, async () => {
    const headers = { 'content-type': 'text/plain; version=0.0.4' };
    const answer = await send(target, { method: 'PUT', headers, body, signal, stallTimeout: 5_000 });
    await readBody(answer);
    if (answer.status >= 300)
      throw new StepError(answer.status >= 500 ? 'transient' : 'usage', `failed to push metrics: the answer is ${answer.status}`);
  });
}
