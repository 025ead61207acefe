import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const file = join(import.meta.dirname, '../dist/sbom.cdx.json');

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
