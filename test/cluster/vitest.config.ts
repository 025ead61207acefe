import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  root: join(import.meta.dirname, '../..'),
  test: {
    include: ['test/cluster/*.test.ts'],
    globalSetup: ['test/cluster/report.ts'],
    // A namespace at a time, a few runs in each: small clusters have few volumes and cores.
    fileParallelism: false,
    maxConcurrency: 3,
    testTimeout: 900_000,
    hookTimeout: 600_000,
    reporters: ['verbose', ['json', { outputFile: '.cache/reports/cluster.json' }]],
  },
});
