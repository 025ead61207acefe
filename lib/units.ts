const byteUnits: Record<string, number> = {
  '': 1,
  k: 1e3,
  kb: 1e3,
  m: 1e6,
  mb: 1e6,
  g: 1e9,
  gb: 1e9,
  t: 1e12,
  tb: 1e12,
  ki: 1024,
  kib: 1024,
  mi: 1024 ** 2,
  mib: 1024 ** 2,
  gi: 1024 ** 3,
  gib: 1024 ** 3,
  ti: 1024 ** 4,
  tib: 1024 ** 4,
};
const timeUnits: Record<string, number> = { ms: 1, '': 1e3, s: 1e3, m: 60e3, h: 3600e3, d: 86_400e3 };

/** `64MiB`, `64Mi` (as Kubernetes writes it), `64MB`, `1048576`: in bytes; undefined when it is none of these. */
export function parseBytes(text: string): number | undefined {
  return parse(text, byteUnits);
}

/** `500ms`, `30s`, `5m`, `1h`, `7d`, `30` (seconds): in ms; undefined when it is none of these. */
export function parseDuration(text: string): number | undefined {
  return parse(text, timeUnits);
}

function parse(text: string, units: Record<string, number>): number | undefined {
  const [, amount, unit] = /^(\d+(?:\.\d+)?)\s*([a-zA-Z]*)$/.exec(text.trim()) ?? [];
  const factor = units[unit?.toLowerCase() ?? ''];
  if (amount === undefined || factor === undefined) return undefined;
  const value = Math.round(Number(amount) * factor);
  return Number.isSafeInteger(value) ? value : undefined;
}

/** `4.4 GB`: for people. */
export function showBytes(bytes: number): string {
  const steps = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  const step = Math.min(steps.length - 1, bytes < 1000 ? 0 : Math.floor(Math.log10(bytes) / 3));
  const value = bytes / 1000 ** step;
  return `${step === 0 ? value : value.toFixed(value < 10 ? 2 : 1)} ${steps[step]}`;
}

/** `1m20s`: for people. */
export function showDuration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m${String(seconds % 60).padStart(2, '0')}s`;
  return `${Math.floor(seconds / 3600)}h${String(Math.floor((seconds % 3600) / 60)).padStart(2, '0')}m`;
}
