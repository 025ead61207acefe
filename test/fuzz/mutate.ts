import type { Random } from '../torture/random.ts';

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

const odd: readonly Json[] = [
  null,
  true,
  0,
  -1,
  1e308,
  2 ** 53,
  0.5,
  '',
  ' ',
  '../../etc/passwd',
  '/etc/passwd',
  'a\u0000b',
  '\ud800',
  'x'.repeat(5000),
  '\u001b[31m\n{"level":"info"}',
  '__proto__',
  [],
  {},
  [[[[[[]]]]]],
];
const names = ['__proto__', 'constructor', 'toString', '', 'path', 'size', 'sha256', 'type', 'lfs', 'oid', 'id', 'name'];

/** A copy with a few things changed, added or gone, anywhere in it. */
export function mutateJson(random: Random, value: Json): Json {
  const copy = structuredClone(value);
  for (let changes = random.between(1, 4); changes > 0; changes -= 1) {
    const holder = random.pick(holdersIn(copy));
    const keys = Array.isArray(holder) ? [...holder.keys()].map(String) : Object.keys(holder);
    const key = keys.length > 0 && random.chance(0.8) ? random.pick(keys) : random.pick(names);
    if (random.chance(0.2)) Reflect.deleteProperty(holder, key);
    else
      Object.defineProperty(holder, key, {
        value: structuredClone(random.pick(odd)),
        enumerable: true,
        configurable: true,
        writable: true,
      });
  }
  return copy;
}

/** A text with pieces cut, doubled, flipped or put in. */
export function mutateText(random: Random, text: string): string {
  let changed = text;
  for (let changes = random.between(1, 4); changes > 0; changes -= 1) {
    const at = random.between(0, changed.length);
    const to = Math.min(changed.length, at + random.between(0, 40));
    const piece = changed.slice(at, to);
    const put = random.pick([
      '',
      piece + piece,
      '<',
      '>',
      '&',
      '"',
      '&#0;',
      '&#x1F600;',
      '\u0000',
      '999999999999999999999',
      '<!DOCTYPE x [<!ENTITY y "z">]>',
      '<a>'.repeat(50),
      ']]>',
    ]);
    changed = changed.slice(0, at) + put + (random.chance(0.1) ? '' : changed.slice(to));
  }
  return changed;
}

function holdersIn(value: Json): (Json[] | { [name: string]: Json })[] {
  if (value === null || typeof value !== 'object') return [[value]];
  return [value, ...Object.values(value).flatMap((each) => (each !== null && typeof each === 'object' ? holdersIn(each) : []))];
}
