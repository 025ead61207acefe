import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { describe, expect, test } from 'vitest';

const root = join(import.meta.dirname, '..');

/** The floors of the house: a file imports only floors below its own, its own folder, and npm packages. Longest name wins. */
const floors: Record<string, number> = {
  'lib/errors.ts': 0,
  'lib/log.ts': 0,
  'lib/methods.ts': 0,
  'lib/shown-url.ts': 0,
  'lib/tar.ts': 0,
  'lib/units.ts': 0,
  'lib/version.ts': 0,
  'lib/addresses.ts': 1,
  'lib/heap.ts': 1,
  'lib/hashing/': 1,
  'lib/holder.ts': 1,
  'lib/integrity.ts': 1,
  'lib/paths.ts': 1,
  'lib/folders.ts': 1,
  'lib/glob.ts': 1,
  'lib/lock.ts': 1,
  'lib/network.ts': 1,
  'lib/progress.ts': 1,
  'lib/results.ts': 1,
  'lib/seen-lock.ts': 1,
  'lib/temporary.ts': 1,
  'lib/workspace.ts': 1,
  'lib/write-at.ts': 1,
  'lib/dry-run.ts': 1,
  'lib/params/': 1,
  'lib/quantization/': 1,
  'lib/safetensors/': 1,
  'lib/transfer/': 1,
  'lib/selection.ts': 2,
  'lib/compression/': 2,
  'lib/direct/': 1,
  'lib/hf-cache.ts': 3,
  'lib/http/': 2,
  'lib/lint/': 2,
  'lib/local/': 2,
  'lib/manifest.ts': 2,
  'lib/metrics.ts': 3,
  'lib/model-uri.ts': 2,
  'lib/naming.ts': 2,
  'lib/pass-on.ts': 2,
  'lib/store.ts': 2,
  'lib/step.ts': 2,
  'lib/define-step.ts': 2,
  'lib/call-step.ts': 2,
  'lib/policy/': 2,
  'lib/publish/': 2,
  'lib/folder-store/': 3,
  'lib/fanout/': 3,
  'lib/hub/': 3,
  'lib/registry/': 3,
  'lib/render/': 3,
  'lib/kubernetes.ts': 3,
  'lib/s3/': 3,
  'lib/s3-get.ts': 3,
  'lib/s3-signature.ts': 3,
  'lib/s3-settings.ts': 3,
  'lib/open-store.ts': 3,
  'tasks/': 4,
  'tasks/bootstrap/': 5,
  'tasks/api.ts': 6,
  'tasks/api/': 6,
  'tasks/import/': 5,
  'tasks/index.ts': 5,
  'tasks/main.ts': 5,
};

const files = ['lib', 'tasks'].flatMap((dir) =>
  readdirSync(join(root, dir), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => join(dir, name)),
);
const text = new Map(files.map((file) => [file, readFileSync(join(root, file), 'utf8')]));

function floorOf(file: string): { name: string; floor: number } | undefined {
  const name = Object.keys(floors)
    .filter((each) => file === each || (each.endsWith('/') && file.startsWith(each)))
    .sort((a, b) => b.length - a.length)[0];
  return name === undefined ? undefined : { name, floor: floors[name] as number };
}

function importsOf(file: string): string[] {
  const found = (text.get(file) ?? '').matchAll(/(?:from|import)\s*\(?\s*'(\.[^']+)'/g);
  return [...found].map(([, path = '']) => relative(root, normalize(join(root, dirname(file), path))));
}

/** Files of one folder may use each other; on the lower floors files stand side by side, in the order that needs no cycle (the linter sees to that). */
function allowed(from: string, to: string): boolean {
  const [above, below] = [floorOf(from), floorOf(to)];
  if (above === undefined || below === undefined) return false;
  if (above.floor > below.floor) return true;
  if (above.floor < below.floor) return false;
  return above.floor !== 4 || dirname(from) === dirname(to);
}

describe('the house', () => {
  test('every file has a floor', () => {
    expect(files.filter((file) => floorOf(file) === undefined)).toEqual([]);
  });

  test.each(files)('%s imports only floors below, and no other step', (file) => {
    expect(importsOf(file).filter((target) => !allowed(file, target))).toEqual([]);
  });

  test('only lib/step.ts touches argv, env and exit', () => {
    const touching = files.filter((file) => /process\.(argv|env|exit\b|exitCode)/.test(text.get(file) ?? ''));
    expect(touching).toEqual(['lib/step.ts']);
  });
});
