/** One entry of `ignore` or `targets`: `re:X` is Python's `re.match(X, module)`, anything else is a module's whole name. */
export interface Pattern {
  entry: string;
  matches(module: string): boolean;
}

/** An entry as a matcher, or why it cannot be one: a pattern that Python's `re` reads in another way than we would is never guessed at. */
export function patternOf(entry: string): Pattern | { entry: string; fault: string } {
  if (!entry.startsWith('re:')) return { entry, matches: (module) => module === entry };
  const translated = translate(entry.slice(3));
  if ('fault' in translated) return { entry, fault: translated.fault };
  try {
    const regex = new RegExp(`^(?:${translated.source})`, 'u');
    return { entry, matches: (module) => regex.test(module) };
  } catch {
    return { entry, fault: 'it is no regular expression' };
  }
}

/** Python's classes know all of Unicode (https://docs.python.org/3/library/re.html#regular-expression-syntax), its `.` excludes a line feed only. */
const classes: Record<string, string> = { d: '\\p{Nd}', w: '[\\p{L}\\p{N}_]', D: '\\P{Nd}', W: '[^\\p{L}\\p{N}_]', s: '\\s', S: '\\S' };
const classesInside: Record<string, string> = { d: '\\p{Nd}', w: '\\p{L}\\p{N}_', D: '\\P{Nd}', s: '\\s', S: '\\S' };
const syntax = /[\\^$.*+?()[\]{}|/-]/;
const quantifier = /^(?:[*+?]|\{\d+(?:,\d*)?\})/;
const groups = ['(?:', '(?=', '(?!'];

/** Python's pattern in JavaScript's words (flag u), token by token. */
function translate(pattern: string): { source: string } | { fault: string } {
  let source = '';
  let at = 0;
  while (at < pattern.length) {
    const rest = pattern.slice(at);
    const char = String.fromCodePoint(rest.codePointAt(0) ?? 0);
    const quantified = quantifier.exec(rest)?.[0];
    if (quantified !== undefined) {
      const lazy = rest[quantified.length] === '?' ? '?' : '';
      source += quantified + lazy;
      at += quantified.length + lazy.length;
      if (/^[*+?{]/.test(pattern.slice(at))) return { fault: `${quantified} is followed by another quantifier` };
    } else if (char === '[') {
      const set = translateSet(rest);
      if ('fault' in set) return set;
      source += set.source;
      at += set.length;
    } else if (char === '\\') {
      const code = rest[1] ?? '';
      const known = classes[code] ?? (/[bB]/.test(code) ? `\\${code}` : literal(code));
      if (known === undefined) return { fault: `\\${code} is not known` };
      source += known;
      at += 2;
    } else if (char === '(') {
      const group = rest[1] === '?' ? groups.find((each) => rest.startsWith(each)) : '(';
      if (group === undefined) return { fault: `a group ${rest.slice(0, 4)} is not known` };
      source += group;
      at += group.length;
    } else if (char === '{') {
      return { fault: 'a brace is no quantifier' };
    } else {
      source += char === '.' ? '[^\\n]' : /[)^$|]/.test(char) ? char : escaped(char);
      at += char.length;
    }
  }
  return { source };
}

function translateSet(rest: string): { source: string; length: number } | { fault: string } {
  const start = rest[1] === '^' ? 2 : 1;
  // Python takes a first bracket as itself and warns of a set inside a set: both are rather refused.
  if (rest[start] === ']' || /^\[[^\]]*(\[|--|&&|~~|\|\|)/.test(rest)) return { fault: 'a set holds another one' };
  let source = rest.slice(0, start);
  for (let at = start; at < rest.length; at += 1) {
    const char = rest[at] ?? '';
    if (char === ']') return { source: `${source}]`, length: at + 1 };
    if (char === '\\') {
      at += 1;
      const code = rest[at] ?? '';
      const known = classesInside[code] ?? literal(code);
      if (known === undefined) return { fault: `\\${code} is not known` };
      source += known;
    } else source += char === '-' ? char : escaped(char);
  }
  return { fault: 'a set does not end' };
}

/** An escaped sign stands for itself; escaped letters and digits mean something, and here it is not known what. */
function literal(code: string): string | undefined {
  return code === '' || /[A-Za-z0-9]/.test(code) || !/^[\x20-\x7e]$/.test(code) ? undefined : escaped(code);
}

function escaped(char: string): string {
  return syntax.test(char) ? (char === '-' ? '\\x2d' : `\\${char}`) : char;
}
