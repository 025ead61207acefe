import type { Pattern } from './patterns.ts';
import { patternOf } from './patterns.ts';

/** A tied model has no such tensor, but a server has such a module. */
const head = 're:.*lm_head$';

/**
 * The `ignore` entries that say exactly which modules were left: each of those is matched, none that was quantized is. Entries among `preferred`
 * that hold are kept as they are, because servers know modules by other names than checkpoints in places; the rest are the
 * shortest endings that hold (`re:.*suffix$`), with any number for a number where that holds.
 */
export function ignoreList(quantized: readonly string[], left: readonly string[], preferred: readonly Pattern[]): string[] {
  const holds = ({ matches }: Pattern) => !quantized.some(matches);
  const entries = new Map<string, Pattern>();
  const open = new Set(left);
  const take = (pattern: Pattern) => {
    entries.set(pattern.entry, pattern);
    for (const module of open) if (pattern.matches(module)) open.delete(module);
  };
  for (const pattern of preferred) {
    if ((pattern.entry === head || [...open].some(pattern.matches)) && holds(pattern)) take(pattern);
  }
  const tried = new Map<string, Pattern | undefined>();
  const exact = (entry: string): Pattern | undefined => {
    if (!tried.has(entry)) {
      const pattern = patternOf(entry);
      tried.set(entry, 'matches' in pattern && holds(pattern) ? pattern : undefined);
    }
    return tried.get(entry);
  };
  for (const module of open) {
    const found = endings(module)
      .map(exact)
      .find((pattern) => pattern !== undefined);
    take(found ?? { entry: module, matches: (other) => other === module });
  }
  return [...entries.keys()];
}

/** Where a list and the modules disagree: what it misses of those left, and what it names of those quantized. */
export function disagreements(entries: readonly string[], quantized: readonly string[], left: readonly string[]): string[] {
  const patterns = entries.map(patternOf).filter((each) => 'matches' in each);
  const ignored = (module: string) => patterns.some(({ matches }) => matches(module));
  return [
    ...left.filter((module) => !ignored(module)).map((module) => `${module} was left but is not ignored`),
    ...quantized.filter(ignored).map((module) => `${module} was quantized but is ignored`),
  ];
}

/** From the last component to the whole name, each with numbers generalised first. */
function endings(module: string): string[] {
  const parts = module.split('.').map((part) => part.replace(/[^A-Za-z0-9_]/g, '\\$&'));
  return parts.flatMap((_, index) => {
    const tail = parts.slice(parts.length - 1 - index);
    // Any number ends like `0`: an ending begins with a name.
    if (isNumber(tail[0] ?? '')) return [];
    const first = tail.findIndex(isNumber);
    const entry = (general: (at: number) => boolean) =>
      `re:.*${tail.map((part, at) => (isNumber(part) && general(at) ? '\\d+' : part)).join('\\.')}$`;
    // All layers, then all experts of one layer, then this one.
    return [...new Set([entry(() => true), entry((at) => at > first), entry(() => false)])];
  });
}

function isNumber(part: string): boolean {
  return /^\d+$/.test(part);
}
