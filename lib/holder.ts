import { randomUUID } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';

/** Who holds a lock. Without /proc (not Linux) only host, pid and id are known, and only its age is judged. */
export interface LockHolder {
  host: string;
  /** Machines may share a name: this tells them, and their restarts, apart. */
  bootId?: string | undefined;
  pid: number;
  pidNamespace?: string | undefined;
  /** Clock ticks from boot: a pid is used again, a pid with its start is not. */
  startTime?: string | undefined;
  id: string;
}

let known: Omit<LockHolder, 'id'> | undefined;

/** Whether the process that holds something is gone; undefined where it cannot be seen from here: another machine, or another pod. */
export function isGone(holder: LockHolder): boolean | undefined {
  const own = ownHolder();
  const near = holder.pidNamespace !== undefined && holder.pidNamespace === own.pidNamespace && holder.bootId === own.bootId;
  return near && holder.host === own.host ? holder.startTime !== startTimeOf(holder.pid) : undefined;
}

/** This process, as it names itself in what it holds. */
export function ownHolder(): LockHolder {
  known ??= {
    host: hostname(),
    bootId: orUndefined(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()),
    pid: process.pid,
    pidNamespace: orUndefined(() => readlinkSync('/proc/self/ns/pid')),
    startTime: startTimeOf(process.pid),
  };
  return { ...known, id: randomUUID() };
}

/** Field 22 of /proc/<pid>/stat (proc(5)); the name in field 2 may hold spaces and brackets. Undefined when no such process lives. */
export function startTimeOf(pid: number): string | undefined {
  const text = orUndefined(() => readFileSync(`/proc/${pid}/stat`, 'utf8')) ?? '';
  const [state = 'X', ...rest] = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return /[ZX]/.test(state) ? undefined : rest[18];
}

/** What `read` gives; undefined when it throws. */
export function orUndefined<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
