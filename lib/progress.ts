import { renameSync, writeFileSync } from 'node:fs';
import type { Log } from './log.ts';
import { showBytes, showDuration } from './units.ts';

export interface ProgressOptions {
  log: Log;
  /** Draws the bar on a terminal; undefined elsewhere. */
  draw?: ((line: string) => void) | undefined;
  /** Argo's ARGO_PROGRESS_FILE: `done/total` is written there. */
  file?: string | undefined;
}

const logEveryMs = 10_000;
const drawEveryMs = 100;
/** Argo's executor reads its file every 3 s (ARGO_PROGRESS_FILE_TICK_DURATION). */
const fileEveryMs = 3_000;
/** The rate shown is the one of this window, so that it follows a wire that changes. */
const windowMs = 15_000;

/** Counts bytes towards a total and tells whoever watches: a bar, a log line at most every 10 s, a file for Argo. */
export class Progress {
  readonly #options: ProgressOptions;
  #label = '';
  #total = 0;
  #done = 0;
  #drawnAt = 0;
  #loggedAt = 0;
  #filedAt = 0;
  #marks: { at: number; done: number }[] = [];

  constructor(options: ProgressOptions) {
    this.#options = options;
  }

  /** A new piece of work of that many bytes. */
  start(label: string, total: number): void {
    this.#label = label;
    this.#total = total;
    this.#done = 0;
    this.#loggedAt = Date.now();
    this.#marks = [{ at: Date.now(), done: 0 }];
    this.#tell(true);
  }

  /** That many more bytes are safely where they belong (negative when a piece has to be done again). */
  add(bytes: number): void {
    this.#done += bytes;
    this.#tell(false);
  }

  /** The end of the piece of work: says its last figure. */
  end(): void {
    if (this.#label === '') return;
    this.#tell(true);
    this.#options.draw?.('');
    this.#label = '';
  }

  #tell(always: boolean): void {
    const now = Date.now();
    const { draw, file, log } = this.#options;
    const due = (last: number, every: number) => always || now - last >= every;
    if (draw && due(this.#drawnAt, drawEveryMs)) {
      this.#drawnAt = now;
      draw(this.#bar(now));
    }
    if (!draw && now - this.#loggedAt >= logEveryMs) {
      this.#loggedAt = now;
      log.info({ work: this.#label, done: this.#done, total: this.#total, bytesPerSecond: Math.round(this.#rate(now)) }, 'progress');
    }
    if (file !== undefined && due(this.#filedAt, fileEveryMs)) {
      this.#filedAt = now;
      this.#writeFile(file);
    }
  }

  #rate(now: number): number {
    if (now - (this.#marks.at(-1)?.at ?? 0) >= 500) this.#marks.push({ at: now, done: this.#done });
    while (this.#marks.length > 2 && now - (this.#marks[0]?.at ?? now) > windowMs) this.#marks.shift();
    const first = this.#marks[0];
    return first && now > first.at ? ((this.#done - first.done) * 1000) / (now - first.at) : 0;
  }

  #bar(now: number): string {
    const part = this.#total > 0 ? Math.min(1, Math.max(0, this.#done / this.#total)) : 1;
    const width = 12;
    const filled = Math.round(part * width);
    const rate = this.#rate(now);
    const left = rate > 0 && part < 1 ? `, ${showDuration(((this.#total - this.#done) * 1000) / rate)} left` : '';
    const bar = '#'.repeat(filled) + '-'.repeat(width - filled);
    return `${this.#label.padEnd(8)} [${bar}] ${Math.floor(part * 100)}% ${showBytes(this.#done)} of ${showBytes(this.#total)} ${showBytes(rate)}/s${left}`;
  }

  /** Argo refuses `0/0`. A progress that cannot be told must not end the work. */
  #writeFile(file: string): void {
    if (this.#total <= 0) return;
    try {
      writeFileSync(`${file}.tmp`, `${Math.max(0, Math.min(this.#done, this.#total))}/${this.#total}\n`);
      renameSync(`${file}.tmp`, file);
    } catch (error) {
      this.#options.log.debug({ file, error: String(error) }, 'progress file not written');
    }
  }
}
