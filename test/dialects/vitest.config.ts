import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

/** The contract of stores alone, against the S3 that the environment names. */
export default defineConfig({
  root: join(import.meta.dirname, '../..'),
  test: {
    include: ['test/store.test.ts'],
    testNamePattern: 'S3 at',
    testTimeout: 60_000,
    reporters: [['json', { outputFile: process.env.CONTRACT_REPORT ?? '.cache/reports/contract.json.tmp' }]],
  },
});
