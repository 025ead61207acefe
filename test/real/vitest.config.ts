import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  root: join(import.meta.dirname, '../..'),
  test: {
    include: ['test/real/*.test.ts'],
    fileParallelism: false,
    // 9 GB of Python come with the first run; vLLM takes half a minute to load a model, most of it imports.
    testTimeout: 600_000,
    hookTimeout: 3_600_000,
    reporters: ['verbose', ['json', { outputFile: '.cache/reports/real.json' }]],
  },
});
