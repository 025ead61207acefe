import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { StepError } from '../errors.ts';
import { SharedMemory } from './shared-memory.ts';
import type { Done, Job } from './worker.ts';

declare const COMPRESS_WORKER: string | undefined;

/** More than this many threads wait for the disk. */
const maxWorkers = 4;

/** So often must work have waited for a thread before another is begun, which costs as much as quantizing a hundred megabytes. */
const waitsForOneMore = 128;

/** How many threads there shall be: as many as this machine has use for, and at most so many. */
export function threadsHere(most = maxWorkers): number {
  return Math.max(1, Math.min(availableParallelism(), maxWorkers, most));
}

/** Threads that do arithmetic, so that this one is free to read, hash and write. One is mostly enough; more are begun where work waits for it. */
export class Workers {
  readonly buffers = new SharedMemory();
  readonly #idle: Worker[] = [];
  readonly #all: Worker[] = [];
  /** The most threads there may be: how many jobs are worked on at once. */
  readonly count: number;
  readonly #queue: Job[] = [];
  readonly #waiting = new Map<number, { resolve: (done: Done) => void; reject: (error: Error) => void }>();
  #online = 0;
  #waits = 0;
  #nextId = 0;
  #broken: Error | undefined;

  /** @param count As `threadsHere` gives it. */
  constructor(count = threadsHere()) {
    this.count = count;
    this.#start();
  }

  /** Hands rows to the next free thread. Its buffers are not to be touched until it is done. */
  run(job: Omit<Job, 'id'>): Promise<Done> {
    this.#nextId += 1;
    const id = this.#nextId;
    return new Promise((resolve, reject) => {
      if (this.#broken) return reject(this.#broken);
      this.#waiting.set(id, { resolve, reject });
      this.#queue.push({ ...job, id });
      this.#send();
    });
  }

  async close(): Promise<void> {
    await Promise.all(this.#all.map((worker) => worker.terminate()));
  }

  #start(): void {
    // A program is one file: the thread's code stands in it as text. From the sources it is the file beside this one.
    const inside = typeof COMPRESS_WORKER === 'string' ? COMPRESS_WORKER : undefined;
    const options = { stdin: false, env: {}, execArgv: [] };
    const worker =
      inside === undefined ? new Worker(new URL('./worker.ts', import.meta.url), options) : new Worker(inside, { ...options, eval: true });
    worker.on('online', () => {
      this.#online += 1;
    });
    worker.on('message', (done: Done) => {
      this.#idle.push(worker);
      this.#waiting.get(done.id)?.resolve(done);
      this.#waiting.delete(done.id);
      this.#send();
    });
    worker.on('error', (error: Error) => this.#fail(error));
    worker.on('exit', (code) => this.#fail(new Error(`a thread ended with ${code}`)));
    worker.unref();
    this.#all.push(worker);
    this.#idle.push(worker);
    this.#send();
  }

  #send(): void {
    for (let worker = this.#idle.pop(); worker; worker = this.#idle.pop()) {
      const job = this.#queue.shift();
      if (job === undefined) {
        this.#idle.push(worker);
        return;
      }
      worker.postMessage(job);
    }
    if (this.#queue.length > 1) this.#waits += 1;
    if (this.#waits < waitsForOneMore || this.#all.length === this.count || this.#online < this.#all.length) return;
    this.#waits = 0;
    this.#start();
  }

  #fail(error: Error): void {
    this.#broken ??= new StepError('bug', `failed to compute: ${error.message}`, { cause: error });
    for (const { reject } of this.#waiting.values()) reject(this.#broken);
    this.#waiting.clear();
  }
}
