import { oneLine } from './errors.ts';
import { showBytes } from './units.ts';

/** What the Hub says of who may have a model, and on what terms; undefined what it does not say. */
export interface Terms {
  license?: string | undefined;
  gated?: 'auto' | 'manual' | false | undefined;
  private?: boolean | undefined;
}

/** Files and their bytes, as dry runs count them. */
export interface Sum {
  files: number;
  bytes: number;
}

/** How many files there are, and their bytes. */
export function sum(files: readonly { size: number }[]): Sum {
  return { files: files.length, bytes: files.reduce((total, { size }) => total + size, 0) };
}

/** The terms as JSON has them: null where nothing is known. */
export function termsJson({ license = null, gated = null, private: secret = null }: { [Name in keyof Terms]: Terms[Name] | null }) {
  return { license, gated, private: secret };
}

/** The terms as a line for people. */
export function termsLine({ license, gated, private: secret }: Terms): string {
  const notes = [
    oneLine(license ?? 'not said'),
    ...(gated ? [`gated (${gated}): a token with access is needed`] : []),
    ...(secret ? ['private: a token is needed'] : []),
  ];
  return planLine('licence', notes.join(', '));
}

/** One line of a plan for people; `what` is files or text. */
export function planLine(name: string, what: Sum | string): string {
  return `  ${name.padEnd(9)} ${typeof what === 'string' ? what : `${what.files} files, ${showBytes(what.bytes)}`}`;
}

/** In how many parts or ranges files go, each of at least one. */
export function partsOf(files: readonly { size: number }[], partSize: (size: number) => number): number {
  return files.reduce((total, { size }) => total + Math.max(1, Math.ceil(size / partSize(size))), 0);
}

/** How many pods could share the work evenly: a file is not split over pods, so that the largest one sets the end. */
export function usefulPods(files: readonly { size: number }[]): number {
  const largest = Math.max(1, ...files.map(({ size }) => size));
  return Math.max(1, Math.min(files.length, Math.ceil(sum(files).bytes / largest)));
}
