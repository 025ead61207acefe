import { StepError } from './errors.ts';
import type { Manifest } from './manifest.ts';
import { pathFault } from './paths.ts';

export interface Names {
  /** The model's name in the store and the registry. */
  name: string;
  version: string;
}

/** What is known of a model before its name: all of a manifest, or what a reservation knows. */
export interface Identity {
  repo: string;
  commit: string;
  /** Undefined for the model as it came. */
  method?: string | undefined;
}

/** Who a manifest's model is. */
export function identityOf(manifest: Manifest): Identity {
  return { ...manifest.source, method: manifest.derived?.method };
}

/** The names given, else the repository's name and the commit's first 12 with `-<method>` behind it. */
export function namesOf(identity: Identity, given: { modelName?: string | undefined; modelVersion?: string | undefined }): Names {
  const method = identity.method === undefined ? '' : `-${identity.method}`;
  return {
    name: given.modelName ?? identity.repo.split('/').at(-1) ?? identity.repo,
    version: given.modelVersion ?? `${identity.commit.slice(0, 12)}${method}`,
  };
}

/**
 * A model's place in a store, without slashes around it. Throws `usage` on unknown words, on a template without the model in it,
 * and on one that leads out of the store or into the control prefix.
 */
export function prefixOf(template: string, identity: Identity, names: Names, controlPrefix: string): string {
  const words = wordsOf(identity, names);
  const fault = wordFault(template, words) ?? placeFault(template, words, controlPrefix);
  if (fault !== undefined) throw new StepError('usage', `failed to use --key-template ${template}: ${fault}`);
  return filledIn(template, words);
}

/** What is wrong with a template for any model, before one is known; undefined when nothing is. */
export function templateFault(template: string, controlPrefix: string): string | undefined {
  const words = wordsOf({ repo: 'org/repo', commit: '0'.repeat(40) }, { name: 'name', version: 'version' });
  const fault = wordFault(template, words) ?? placeFault(template, words, controlPrefix);
  return fault === undefined ? undefined : `--key-template ${template}: ${fault}`;
}

function filledIn(template: string, words: Record<string, string>): string {
  return withSingleSlashes(fill(template, words)).replace(/\/+$/, '');
}

function placeFault(template: string, words: Record<string, string>, controlPrefix: string): string | undefined {
  const prefix = filledIn(template, words);
  const inside = `${prefix}/`.startsWith(`${controlPrefix}/`) ? `${prefix} lies in the control prefix ${controlPrefix}` : undefined;
  return pathFault(prefix) ?? inside;
}

/** The part of the prefix that all versions of one model share, up to the first word that tells versions apart; undefined when none does. */
export function versionsPrefix(template: string, identity: Identity, names: Names): string | undefined {
  const at = template.search(/\{(version|commit)\}/);
  return at < 0 ? undefined : withSingleSlashes(fill(template.slice(0, at), wordsOf(identity, names)));
}

function wordsOf({ repo, commit }: Identity, { name, version }: Names): Record<string, string> {
  const [org, base] = repo.includes('/') ? repo.split('/') : ['', repo];
  return { org: org ?? '', repo: base ?? repo, name, version, commit };
}

const wordPattern = /\{([^{}]*)\}/g;

function wordFault(template: string, words: Record<string, string>): string | undefined {
  const unknown = [...template.matchAll(wordPattern)].find(([, word = '']) => !Object.hasOwn(words, word));
  const known = Object.keys(words).map((one) => `{${one}}`);
  if (unknown) return `unknown word ${unknown[0]}, words are ${known.join(' ')}`;
  return /[{}]/.test(template.replace(wordPattern, '')) ? 'a brace is open' : undefined;
}

/** Words that are not known stay as they are. */
function fill(template: string, words: Record<string, string>): string {
  return template.replace(wordPattern, (whole, word: string) => words[word] ?? whole);
}

/** A template such as `/models/{name}/` means the same without its first slash, and `{org}/{repo}` of a repo without org too. */
function withSingleSlashes(text: string): string {
  return text.replace(/\/{2,}/g, '/').replace(/^\//, '');
}

/** The words that a prefix was filled with, as far as its template tells them; undefined when it is none of that template. */
export function wordsIn(
  template: string,
  prefix: string,
): Partial<Record<'org' | 'repo' | 'name' | 'version' | 'commit', string>> | undefined {
  const seen = new Set<string>();
  const pattern = withSingleSlashes(template)
    .replace(/\/+$/, '')
    .split(/(\{org\}\/|\{[a-z]+\})/)
    .map((piece) => {
      const [, word] = /^\{([a-z]+)\}/.exec(piece) ?? [];
      if (word === undefined) return piece.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
      if (seen.has(word)) return `\\k<${word}>${piece.endsWith('/') ? '/' : ''}`;
      seen.add(word);
      // A repository without an organisation leaves no empty folder behind.
      if (word === 'org') return piece.endsWith('/') ? '(?:(?<org>[^/]+)/)?' : '(?<org>[^/]*?)';
      return word === 'commit' ? '(?<commit>[0-9a-f]{40})' : `(?<${word}>[^/]+)`;
    });
  const match = new RegExp(`^${pattern.join('')}$`).exec(prefix);
  return match ? { ...match.groups } : undefined;
}

/** The part of all prefixes up to the first word of the template that is not known. */
export function knownStart(template: string, words: Partial<Record<string, string>>): string {
  const unknown = [...template.matchAll(/\{([a-z]+)\}/g)].find(([, word = '']) => words[word] === undefined);
  const start = template.slice(0, unknown?.index ?? template.length);
  return withSingleSlashes(start.replace(/\{([a-z]+)\}/g, (_, word: string) => words[word] ?? ''));
}
