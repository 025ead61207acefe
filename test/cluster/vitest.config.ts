import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/cluster/*.test.ts'],
    // Pods come one after another, on nodes that may be small.
    testTimeout: 900_000,
    hookTimeout: 300_000,
    maxWorkers: 3,
    reporters: ['default', ['json', { outputFile: '.cache/reports/cluster.json' }]],
  },
});
