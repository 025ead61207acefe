import { appendFileSync, writeSync } from 'node:fs';
import { type Logger, pino, stdTimeFunctions } from 'pino';
import { exitCodes, kindOf, messageOf, oneLine, StepError } from './errors.ts';

export type Log = Logger;

export interface LogOptions {
  level: string;
  format: 'json' | 'pretty';
  redactor: Redactor;
  /** Takes one finished line, without its line break. */
  write: (line: string) => void;
  /** Also appended to this file, as JSON. */
  file?: string | undefined;
}

/**
 * A log whose lines hold no secret: every line passes the redactor last, whatever put the text into it.
 * Lines are written at once (no worker, no buffer), so that a killed pod has said all it knew.
 */
export function createLog({ level, format, redactor, write, file }: LogOptions): Log {
  const stream = {
    write(raw: string) {
      const line = redactor.clean(raw.trimEnd());
      if (file !== undefined) appendFileSync(file, `${line}\n`);
      write(format === 'json' ? line : pretty(JSON.parse(line) as Record<string, unknown>));
    },
  };
  return pino({ level, base: null, timestamp: stdTimeFunctions.isoTime, formatters: { level: (label) => ({ level: label }) } }, stream);
}

/** Writes a line to a file descriptor; a full pipe is waited for, a closed one ignored: a log must not end the work. */
export function writeLine(fd: number, line: string): void {
  let rest = Buffer.from(`${line}\n`);
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(fd, rest));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
      else return;
    }
  }
}

/** Knows the secrets of this run and takes them out of any text, also base64 and percent-encoded. */
export class Redactor {
  readonly #secrets = new Set<string>();

  /** Values under 6 characters are left alone: taking them out would spoil ordinary words. */
  add(secret: string): void {
    if (secret.length < 6) return;
    for (const form of [secret, encodeURIComponent(secret), JSON.stringify(secret).slice(1, -1)]) this.#secrets.add(form);
    for (const encoding of ['base64', 'base64url'] as const) this.#secrets.add(Buffer.from(secret).toString(encoding).replace(/=+$/, ''));
  }

  clean(text: string): string {
    let clean = text;
    // The longest first: of one that stands in another, the rest would stay.
    for (const secret of [...this.#secrets].sort((a, b) => b.length - a.length)) clean = clean.replaceAll(secret, '**redacted**');
    return clean;
  }
}

const colours: Record<string, string> = { trace: '90', debug: '90', info: '32', warn: '33', error: '31', fatal: '31' };

/** One line for a person: time, level, event, then `key=value` pairs. */
function pretty({ time, level, msg, ...fields }: Record<string, unknown>): string {
  const { stack, ...rest } = fields;
  const pairs = Object.entries(rest).map(([key, value]) => `\u001b[90m${key}=\u001b[0m${shown(value)}`);
  const label = `\u001b[${colours[String(level)] ?? '0'}m${String(level).padEnd(5)}\u001b[0m`;
  const line = [String(time).slice(11, 19), label, oneLine(String(msg ?? '')), ...pairs].join(' ');
  return typeof stack === 'string' ? `${line}\n${stack}` : line;
}

function shown(value: unknown): string {
  const text = typeof value === 'string' ? oneLine(value) : JSON.stringify(value);
  return /^[^\s"]+$/.test(text) || typeof value !== 'string' ? text : JSON.stringify(text);
}

/** Tells the failure in one line, with a hint and, where `stacks` or it is a bug, its stack. Returns the exit code. */
export function logFailure(error: unknown, log: Log, stacks: boolean): number {
  const kind = kindOf(error);
  const exitCode = exitCodes[kind];
  const hint = error instanceof StepError ? error.hint : undefined;
  const message = messageOf(error);
  const known = error instanceof StepError || kind !== 'bug';
  const text = known ? message : `failed to run: ${message} (a bug of modelferry)`;
  const stack = stacks || !known ? stackOf(error) : undefined;
  const fields = { kind, exitCode, ...(hint ? { hint: oneLine(hint) } : {}), ...(stack ? { stack } : {}) };
  if (kind === 'terminated') log.warn(fields, text);
  else log.error(fields, text);
  return exitCode;
}

function stackOf(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const cause = error.cause === undefined ? '' : `\ncaused by ${stackOf(error.cause) ?? String(error.cause)}`;
  return `${error.stack ?? error.message}${cause}`;
}
