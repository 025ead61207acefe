import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const file = join(import.meta.dirname, '../dist/sbom.cdx.json');
const root = join(import.meta.dirname, '..');

test('the SBOM names what is inside the programs, each with version, licence and digest', () => {
  expect(existsSync(file), 'npm run build makes it').toBe(true);
  const sbom = JSON.parse(readFileSync(file, 'utf8')) as {
    bomFormat: string;
    components: { name: string; version: string; purl: string; licenses: unknown[]; hashes: { content: string }[] }[];
  };
  expect(sbom.bomFormat).toBe('CycloneDX');
  const names = sbom.components.map(({ name }) => name);
  for (const name of ['@aws-sdk/client-s3', '@huggingface/hub', 'ajv', 'pino', 'yargs']) expect(names).toContain(name);
  // What only builds and tests need is in no image.
  for (const name of ['typescript', 'vitest', 'esbuild', '@biomejs/biome']) expect(names).not.toContain(name);
  for (const { name, version, purl, licenses, hashes } of sbom.components) {
    expect(version, name).toMatch(/^\d+\.\d+\.\d+/);
    expect(purl).toBe(`pkg:npm/${name.replace('@', '%40')}@${version}`);
    expect(licenses.length, name).toBe(1);
    expect(hashes[0]?.content, name).toMatch(/^[0-9a-f]{128}$/);
  }
});

test('the README says of everything inside why it is there, and of nothing else; nothing of it runs when it is installed', () => {
  const { components } = JSON.parse(readFileSync(file, 'utf8')) as { components: { name: string }[] };
  const [, table = ''] = /<!-- inside -->(.*)<!-- \/inside -->/s.exec(readFileSync(join(root, 'README.md'), 'utf8')) ?? [];
  const named = [...table.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name);
  expect(named.length).toBeGreaterThan(20);
  const covers = (pattern: string, name: string) => (pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : name === pattern);
  const inside = [...new Set(components.map(({ name }) => name))];
  expect(inside.filter((name) => !named.some((pattern) => covers(pattern, name)))).toEqual([]);
  expect(named.filter((pattern) => !inside.some((name) => covers(pattern, name)))).toEqual([]);

  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { hasInstallScript?: true }>;
  };
  const scripted = Object.keys(packages).filter(
    (path) => packages[path]?.hasInstallScript && inside.some((name) => path.endsWith(`node_modules/${name}`)),
  );
  expect(scripted).toEqual([]);
});
