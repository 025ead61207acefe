import { describe, expect, it } from 'vitest';
import { run } from './cluster/kubectl.js';

describe('running a program for the cluster tests', () => {
  it('a program that ends without reading its input is judged by its exit, not by the broken pipe', async () => {
    const input = 'x'.repeat(4 * 1024 * 1024);
    await expect(run('true', [], input)).resolves.toBe('');
    await expect(run('sh', ['-c', 'echo no such namespace >&2; exit 1'], input)).rejects.toThrow('no such namespace');
  });
});
