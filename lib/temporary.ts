import { createHash, randomUUID } from 'node:crypto';
import { lstat, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ownHolder, startTimeOf } from './holder.ts';

/** Nobody works so long (ms) on a temporary file without writing to it. */
const leftAfterMs = 3_600_000;

/** The end of a temporary file's name: no other has it, and it tells which process made it. */
export function temporaryName(): string {
  const { pid, startTime = '' } = ownHolder();
  return `${machine()}-${pid}-${startTime}-${randomUUID().slice(0, 8)}.tmp`;
}

/**
 * Takes away the temporary files and folders in `dir` that a killed run left: those of processes that are gone, as far as that can be seen
 * from here, else those that are an hour old. What cannot be read or taken away stays: nothing depends on it.
 */
export async function sweepTemporaries(dir: string): Promise<void> {
  const names = await readdir(dir).catch(() => []);
  for (const name of names.filter((each) => nameForm.test(each))) {
    const path = join(dir, name);
    if (await isLeft(path, name)) await rm(path, { recursive: true, force: true }).catch(() => {});
  }
}

const nameForm = /(?:^|\.)([0-9a-f]{12})-(\d+)-(\d*)-[0-9a-f]{8}\.tmp$/;

async function isLeft(path: string, name: string): Promise<boolean> {
  const [, where, pid, startTime] = nameForm.exec(name) ?? [];
  if (where === machine() && startTime !== '') return startTimeOf(Number(pid)) !== startTime;
  const info = await lstat(path).catch(() => undefined);
  return info !== undefined && Date.now() - info.mtimeMs > leftAfterMs;
}

/** Where process ids mean the same: one machine since its start, and one pod on it. */
function machine(): string {
  const { host, bootId, pidNamespace } = ownHolder();
  return createHash('sha256')
    .update(JSON.stringify([host, bootId, pidNamespace]))
    .digest('hex')
    .slice(0, 12);
}
