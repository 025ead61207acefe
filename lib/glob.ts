type OneCharacter = (character: string) => boolean;

/**
 * A test for whole paths as Python's fnmatch does it, which is what allow_patterns of huggingface_hub mean: `*` and `?` match slashes too,
 * `[abc]`, `[a-z]` and `[!abc]` are sets, and a pattern that ends in `/` means all below it. (node:path's matchesGlob stops at slashes.)
 * Takes time in proportion to pattern and path, whatever the pattern.
 */
export function globMatcher(pattern: string): (path: string) => boolean {
  const [first = [], ...others] = pieces(pattern.endsWith('/') ? `${pattern}*` : pattern);
  const last = others.pop();
  return (path) => {
    const text = Array.from(path);
    if (!fits(first, text, 0)) return false;
    if (last === undefined) return text.length === first.length;
    let at = first.length;
    for (const piece of others) {
      while (at <= text.length && !fits(piece, text, at)) at += 1;
      if (at > text.length) return false;
      at += piece.length;
    }
    return text.length - last.length >= at && fits(last, text, text.length - last.length);
  };
}

function fits(piece: readonly OneCharacter[], text: readonly string[], at: number): boolean {
  return at + piece.length <= text.length && piece.every((matches, index) => matches(text[at + index] as string));
}

/** What stands between the stars, one test for each character. */
function pieces(pattern: string): OneCharacter[][] {
  const characters = Array.from(pattern);
  const found: OneCharacter[][] = [[]];
  for (let at = 0; at < characters.length; at += 1) {
    const character = characters[at] as string;
    if (character === '*') {
      found.push([]);
      continue;
    }
    const end = character === '[' ? endOfSet(characters, at) : -1;
    if (end > 0) {
      found.at(-1)?.push(setOf(characters.slice(at + 1, end)));
      at = end;
    } else found.at(-1)?.push(character === '?' ? () => true : (one) => one === character);
  }
  return found;
}

/** Where the set that opens at `at` closes: a `]` right behind `[` or `[!` belongs to it. -1: it does not, and `[` is only itself. */
function endOfSet(characters: readonly string[], at: number): number {
  const from = at + (characters[at + 1] === '!' ? 3 : 2);
  return characters.indexOf(']', from);
}

function setOf(inside: readonly string[]): OneCharacter {
  const negated = inside[0] === '!';
  const members = negated ? inside.slice(1) : inside;
  const ranges: [string, string][] = [];
  for (let at = 0; at < members.length; at += 1) {
    const from = members[at] as string;
    const isRange = members[at + 1] === '-' && at + 2 < members.length;
    ranges.push([from, isRange ? (members[at + 2] as string) : from]);
    if (isRange) at += 2;
  }
  const point = (character: string) => character.codePointAt(0) ?? 0;
  return (one) => negated !== ranges.some(([from, to]) => point(from) <= point(one) && point(one) <= point(to));
}
