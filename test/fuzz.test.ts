import { afterAll, beforeAll, expect, test } from 'vitest';
import { fuzz } from './fuzz/run.ts';
import { makeTargets, type Target } from './fuzz/targets.ts';

/** The short form: `npm run fuzz` makes 100,000 cases of each. */
let targets: Target[];
beforeAll(async () => {
  targets = await makeTargets();
});
afterAll(async () => {
  for (const target of targets) await target.close?.();
});

test('what others write, made wrong, is read or refused in our words', async () => {
  for (const target of targets) {
    const { faults } = await fuzz(target, 1, 100);
    expect(faults, target.name).toEqual([]);
  }
});
