import { StepError } from './errors.ts';

const encoder = new TextEncoder();
/** NAME_MAX of Linux file systems. */
const maxComponentBytes = 255;
/** S3's limit on a key (S3 user guide, "Naming Amazon S3 objects"). */
const maxKeyBytes = 1024;

/** Why a path from a listing must not be used, naming it; undefined when it is good. */
export function pathFault(path: string): string | undefined {
  const shown = JSON.stringify(path.length > 300 ? `${path.slice(0, 300)}...` : path);
  const components = path.split('/');
  if (path === '') return 'an empty path';
  if (path.includes('\0')) return `path ${shown} has a NUL byte`;
  if (path.startsWith('/') || /^[A-Za-z]:[\\/]/.test(path)) return `path ${shown} is absolute`;
  if (components.some((part) => part === '..' || part === '.')) return `path ${shown} leaves its folder`;
  if (components.includes('')) return `path ${shown} has an empty component`;
  if (components.some((part) => part.includes('\\'))) return `path ${shown} has a backslash`;
  if (!path.isWellFormed()) return `path ${shown} is no valid Unicode`;
  if (components.some((part) => encoder.encode(part).length > maxComponentBytes))
    return `path ${shown} has a component over ${maxComponentBytes} bytes`;
  return undefined;
}

/** Throws `refused` naming every path of a listing that must not be used, or that two files would share. */
export function checkPaths(paths: readonly string[]): void {
  const faults = paths.map(pathFault).filter((fault) => fault !== undefined);
  const seen = new Set<string>();
  for (const path of paths) {
    if (seen.has(path)) faults.push(`path ${JSON.stringify(path)} is listed twice`);
    seen.add(path);
  }
  for (const path of paths) {
    const folder = parents(path).find((parent) => seen.has(parent));
    if (folder !== undefined) faults.push(`path ${JSON.stringify(folder)} is a file and a folder`);
  }
  if (faults.length > 0)
    throw new StepError('refused', `failed to accept the listing: ${faults.join('; ')}`, {
      hint: 'leave such files out with --ignore-patterns',
    });
}

/** Throws `refused` naming every key that is too long for S3. */
export function checkKeys(keys: readonly string[]): void {
  const long = keys.filter((key) => encoder.encode(key).length > maxKeyBytes);
  if (long.length > 0) {
    throw new StepError(
      'refused',
      `failed to accept keys over ${maxKeyBytes} bytes: ${long.map((key) => JSON.stringify(key.slice(0, 200))).join(', ')}`,
      {
        hint: 'a shorter --key-template helps',
      },
    );
  }
}

/** Paths that a file system without case would take for one another. */
export function caseCollisions(paths: readonly string[]): string[][] {
  const groups = Map.groupBy(paths, (path) => path.normalize('NFC').toLowerCase());
  return [...groups.values()].filter((group) => group.length > 1);
}

/** `a/b/c` -> `a`, `a/b`. */
export function parents(path: string): string[] {
  const parts = path.split('/');
  return parts.slice(1).map((_, index) => parts.slice(0, index + 1).join('/'));
}
