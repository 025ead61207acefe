import { appendFileSync, writeSync } from 'node:fs';
import { type Logger, pino, stdTimeFunctions } from 'pino';
import { exitCodes, kindOf, messageOf, oneLine, StepError, visible } from './errors.ts';

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
 * Lines are written at once (no worker, no buffer), so that a killed pod has said all it knew. Throws `usage` when the file takes nothing.
 */
export function createLog({ level, format, redactor, write, file }: LogOptions): Log {
  if (file !== undefined) startFile(file);
  let appends = file !== undefined;
  const append = (text: string) => {
    if (file === undefined || !appends) return;
    try {
      appendFileSync(file, text);
    } catch (error) {
      // A log must not end the work, nor keep it from being told.
      appends = false;
      write(oneLine(`the log goes on without --log-file ${file}: ${messageOf(error)}`));
    }
  };
  const stream = {
    write(raw: string) {
      // What JSON leaves as it is, a terminal or a viewer of logs may still obey.
      const line = visible(redactor.clean(raw.trimEnd()));
      append(`${line}\n`);
      write(format === 'json' ? line : pretty(JSON.parse(line) as Record<string, unknown>));
    },
  };
  return pino({ level, base: null, timestamp: stdTimeFunctions.isoTime, formatters: { level: (label) => ({ level: label }) } }, stream);
}

/** Throws `usage` when the file takes nothing. */
function startFile(file: string): void {
  try {
    appendFileSync(file, '');
  } catch (error) {
    throw new StepError('usage', `failed to write --log-file ${file}: ${messageOf(error)}`, { cause: error });
  }
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

/** Knows the secrets of this run and takes them out of any text, also base64 (by itself or behind a user's name) and percent-encoded. */
export class Redactor {
  /** Those of this process, which every redactor takes out. */
  static readonly #everywhere = new Set<string>();
  readonly #secrets = new Set<string>();

  /** Values under 6 characters are left alone: taking them out would spoil ordinary words. */
  add(secret: string): void {
    for (const form of formsOf(secret)) this.#secrets.add(form);
  }

  /** A secret that is found on the way, by whoever finds it: a role's keys, a proxy's password. */
  static hide(secret: string): void {
    for (const form of formsOf(secret)) Redactor.#everywhere.add(form);
  }

  clean(text: string): string {
    let clean = text;
    // The longest first: of one that stands in another, the rest would stay.
    const all = [...this.#secrets, ...Redactor.#everywhere].sort((a, b) => b.length - a.length);
    for (const secret of all) clean = clean.replaceAll(secret, '**redacted**');
    return clean;
  }
}

function formsOf(secret: string): string[] {
  if (secret.length < 6) return [];
  const forms = [secret, encodeURIComponent(secret), JSON.stringify(secret).slice(1, -1)];
  // There are three ways to lie in base64, by how many bytes stand before: the signs at both ends, which depend on those beside, stay.
  for (const before of [0, 1, 2]) {
    const whole = Buffer.concat([Buffer.alloc(before), Buffer.from(secret)]);
    for (const encoding of ['base64', 'base64url'] as const) {
      const text = whole.toString(encoding).replace(/=+$/, '');
      const own = whole.length % 3 === 0 ? text : text.slice(0, -1);
      if (before === 0) forms.push(text);
      forms.push(own.slice(before === 0 ? 0 : before + 1));
    }
  }
  return forms;
}

const colours: Record<string, string> = { trace: '90', debug: '90', info: '32', warn: '33', error: '31', fatal: '31' };

/** One line for a person: time, level, event, then `key=value` pairs. */
function pretty({ time, level, msg, ...fields }: Record<string, unknown>): string {
  const { stack, ...rest } = fields;
  const pairs = Object.entries(rest).map(([key, value]) => `\u001b[90m${key}=\u001b[0m${shown(value)}`);
  const label = `\u001b[${colours[String(level)] ?? '0'}m${String(level).padEnd(5)}\u001b[0m`;
  const line = [String(time).slice(11, 19), label, oneLine(String(msg ?? '')), ...pairs].join(' ');
  // Moved in, so that none of its lines can pass for one of the log.
  return typeof stack === 'string' ? `${line}\n${visible(stack).replace(/^/gm, '    ')}` : line;
}

function shown(value: unknown): string {
  const text = typeof value === 'string' ? oneLine(value) : visible(JSON.stringify(value));
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

/** The message on one line, whatever it holds, then where it comes from. */
function stackOf(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const cause = error.cause === undefined ? '' : `\ncaused by ${stackOf(error.cause) ?? messageOf(error.cause)}`;
  const frames = error.stack?.split('\n').filter((line) => /^ +at /.test(line)) ?? [];
  return [`${error.name}: ${messageOf(error)}`, ...frames].join('\n') + cause;
}
