import { Random } from '../torture/random.ts';
import { faultOf, type Target } from './targets.ts';

/** A case that took longer (ms) counts as one that hangs. */
const slowMs = 10_000;

export interface FuzzReport {
  name: string;
  cases: number;
  refused: number;
  ms: number;
  /** CPU seconds of its process, servers and all. */
  cpuSeconds: number;
  /** Each kind of fault once, with the seed of its case. */
  faults: string[];
}

/** So many cases of one target, each with a seed of its own, so that one alone can be run again. */
export async function fuzz(target: Target, seed: number, cases: number, stopAt = Number.POSITIVE_INFINITY): Promise<FuzzReport> {
  const report: FuzzReport = { name: target.name, cases: 0, refused: 0, ms: 0, cpuSeconds: 0, faults: [] };
  const seen = new Set<string>();
  const startedAt = performance.now();
  const cpuBefore = process.cpuUsage();
  for (; report.cases < cases && Date.now() < stopAt; report.cases += 1) {
    const own = seed + report.cases;
    const before = performance.now();
    try {
      await target.run(new Random(own));
    } catch (error) {
      report.refused += 1;
      const fault = faultOf(error);
      const kind = fault?.split('\n').slice(0, 2).join(' ').replace(/\d+/g, 'N');
      if (fault && kind && !seen.has(kind) && seen.size < 20) {
        seen.add(kind);
        report.faults.push(`seed ${own}: ${fault}`);
      }
    }
    const ms = performance.now() - before;
    if (ms > slowMs) report.faults.push(`seed ${own}: took ${Math.round(ms)} ms`);
  }
  report.ms = performance.now() - startedAt;
  const { user, system } = process.cpuUsage(cpuBefore);
  report.cpuSeconds = (user + system) / 1e6;
  return report;
}
