import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** The runtime, the clients and the smallest buffers take up to 137 MiB (measured for a sync of large files). */
export const leastMemory = 160 * 1024 ** 2;

/** Looked at so often (ms). Between two looks, many small requests let the heap grow by less than the margin. */
const everyMs = 100;
const marginBytes = 96 * 1024 ** 2;
/** A collection that can free less than this (bytes) is not worth its time. */
const worthBytes = 8 * 1024 ** 2;

/**
 * Has garbage collected when this process comes near to so many bytes resident. V8 lets its heap grow as the machine's memory allows, however small
 * the pod is: the garbage of thousands of requests would lie there beside the buffers (measured: a sync of 20,000 files over 64 connections peaked at
 * 316 MiB, and at 255 so). Costs nothing while there is room.
 */
export function collectNear(maxMemory: number): void {
  let collect: (() => void) | undefined;
  let left = 0;
  setInterval(() => {
    if (process.memoryUsage.rss() < maxMemory - marginBytes) return;
    collect ??= beginToSave();
    if (process.memoryUsage().heapTotal < left + worthBytes) return;
    collect();
    left = process.memoryUsage().heapTotal;
  }, everyMs).unref();
}

/** What V8 sets aside for new objects grows no more from here on, which it would by tens of MiB where thousands of requests make garbage. */
function beginToSave(): () => void {
  setFlagsFromString('--semi-space-growth-factor=1');
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as () => void;
}
