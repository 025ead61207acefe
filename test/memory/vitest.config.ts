import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  root: join(import.meta.dirname, '../..'),
  test: {
    include: ['test/memory/*.test.ts'],
    testTimeout: 300_000,
    hookTimeout: 60_000,
    reporters: ['verbose', ['json', { outputFile: '.cache/reports/memory.json' }]],
  },
});
