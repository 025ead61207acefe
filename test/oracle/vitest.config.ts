import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  root: join(import.meta.dirname, '../..'),
  test: {
    include: ['test/oracle/*.test.ts'],
    fileParallelism: false,
    // 6 GB of Python come with the first run; a model takes half a minute to load, most of it imports.
    testTimeout: 1_800_000,
    hookTimeout: 3_600_000,
    reporters: ['verbose', ['json', { outputFile: '.cache/reports/oracle.json' }]],
  },
});
