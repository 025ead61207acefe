import { Ajv } from 'ajv';
import { describe, expect, test } from 'vitest';
import { kindOf } from '../lib/errors.ts';
import { sha256Of } from '../lib/integrity.ts';
import { contentDigest, makeManifest, manifestBytes, manifestSchema, manifestSha256, parseManifest, sameContent } from '../lib/manifest.ts';
import { identityOf, namesOf, prefixOf, versionsPrefix } from '../lib/naming.ts';
import { caseCollisions, checkKeys, checkPaths, pathFault } from '../lib/paths.ts';

const commit = 'c'.repeat(40);
const digest = (text: string) => sha256Of(text);
const everything = { allowPatterns: [], ignorePatterns: [], profile: 'all' };
const file = (path: string, size = 1) => ({ path, size, sha256: digest(path) });
const manifest = makeManifest({
  source: { repo: 'org/name', commit },
  selection: everything,
  files: [file('b', 2), file('a'), file('é/x', 3)],
});
const integrity = (error: unknown) => kindOf(error) === 'integrity';

describe('a manifest', () => {
  test('has a schema that is one', () => {
    expect(new Ajv().validateSchema(manifestSchema)).toBe(true);
  });

  test('sorts its files, sums them up, and has the same bytes however it was made', () => {
    expect(manifest.files.map(({ path }) => path)).toEqual(['a', 'b', 'é/x']);
    expect(manifest.totalBytes).toBe(6);
    const again = makeManifest({
      source: { commit, repo: 'org/name' },
      files: [file('é/x', 3), file('a'), file('b', 2)],
      selection: { ...everything },
    });
    expect(manifestBytes(again).equals(manifestBytes(manifest))).toBe(true);
    expect(parseManifest(manifestBytes(manifest), 'm', manifestSha256(manifest))).toEqual(manifest);
  });

  test.each([
    ['no JSON', 'x'],
    ['another schema', JSON.stringify({ ...manifest, schemaVersion: 2 })],
    ['a key too many', JSON.stringify({ ...manifest, extra: 1 })],
    ['a digest that is none', JSON.stringify({ ...manifest, files: [{ ...manifest.files[0], sha256: 'x' }] })],
    ['a sum that is wrong', JSON.stringify({ ...manifest, totalBytes: 7 })],
    ['a path that leaves its folder', JSON.stringify({ ...manifest, files: [file('../x')], totalBytes: 1 })],
    ['a path twice', JSON.stringify({ ...manifest, files: [file('a'), file('a')], totalBytes: 2 })],
    ['no files', JSON.stringify({ ...manifest, files: [], totalBytes: 0 })],
  ])('with %s is refused', (_, text) => {
    expect(() => parseManifest(Buffer.from(text), 'm')).toThrow(expect.toSatisfy(integrity));
  });

  test('that is not the one asked for is refused', () => {
    expect(() => parseManifest(manifestBytes(manifest), 'm', digest('other'))).toThrow(expect.toSatisfy(integrity));
  });

  test('says the same content when files and derivation are equal, whatever the commit', () => {
    const moved = makeManifest({ ...manifest, source: { repo: 'org/name', commit: 'd'.repeat(40) } });
    expect(sameContent(moved, manifest)).toBe(true);
    const smaller = makeManifest({ ...manifest, derived: { method: 'w4a16', config: {}, fromManifestSha256: digest('m') } });
    expect(contentDigest(smaller)).not.toBe(contentDigest(manifest));
  });
});

describe('paths', () => {
  test.each([
    '../x',
    'a/../b',
    '/etc/passwd',
    'a\0b',
    '',
    'a//b',
    './a',
    'C:\\x',
    'a\\..\\b',
    `${'x'.repeat(256)}`,
    `${'é'.repeat(128)}`,
    '\ud800',
  ])('refuses %j by name', (path) => {
    expect(() => checkPaths(['fine.txt', path])).toThrow(expect.toSatisfy((error: unknown) => kindOf(error) === 'refused'));
    expect(pathFault(path)).toBeDefined();
  });

  test('takes what repositories have', () => {
    checkPaths(['a', 'sub/a b.txt', '日本/ключ.json', '.gitattributes', 'x'.repeat(255), 'a.b/..c']);
  });

  test('refuses a path that is a file and a folder, or is listed twice', () => {
    expect(() => checkPaths(['a', 'a/b'])).toThrow('a file and a folder');
    expect(() => checkPaths(['a', 'a'])).toThrow('twice');
  });

  test('refuses keys over 1,024 bytes, and finds names that differ by case only', () => {
    expect(() => checkKeys([`${'a/'.repeat(512)}b`])).toThrow('1024');
    expect(caseCollisions(['README.md', 'readme.md', 'x'])).toEqual([['README.md', 'readme.md']]);
  });
});

describe('names', () => {
  const identity = identityOf(manifest);
  test('come from the repository and the commit, with the method behind', () => {
    expect(namesOf(identity, {})).toEqual({ name: 'name', version: 'c'.repeat(12) });
    expect(namesOf({ ...identity, method: 'w4a16' }, {}).version).toBe(`${'c'.repeat(12)}-w4a16`);
    expect(namesOf(identity, { modelName: 'm', modelVersion: '1.0' })).toEqual({ name: 'm', version: '1.0' });
  });

  test.each([
    ['model-data/{name}/{version}', 'model-data/m/1.0', 'model-data/m/'],
    ['models/{org}--{repo}', 'models/org--name', undefined],
    ['/models/{name}/', 'models/m', undefined],
    ['{repo}/{commit}', `name/${commit}`, 'name/'],
  ])('fill the template %s', (template, prefix, versions) => {
    const names = { name: 'm', version: '1.0' };
    expect(prefixOf(template, identity, names, '.modelferry')).toBe(prefix);
    expect(versionsPrefix(template, identity, names)).toBe(versions);
  });

  test.each(['{nope}/x', '../{name}', '.modelferry/{name}', '{name'])('refuse the template %s', (template) => {
    expect(() => prefixOf(template, identity, { name: 'm', version: '1' }, '.modelferry')).toThrow(
      expect.toSatisfy((error: unknown) => kindOf(error) === 'usage'),
    );
  });
});
