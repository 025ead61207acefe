import { bitsIn, type FloatType } from '../../lib/quantization/floats.ts';
import { maxAbs, quantizeRows } from '../../lib/quantization/kernel.ts';
import { outputsOf } from '../../lib/quantization/outputs.ts';
import { globalScaleOf } from '../../lib/quantization/scales.ts';
import { type Method, schemeOf } from '../../lib/quantization/schemes.ts';

/**
 * One method over weights in memory, as a program of its own: an engine that has seen other schemes compiles the same loops in another way.
 * argv: method, type, `sums` or `plain`, counted runs. Prints a list of weights per second of CPU, one for each run.
 */
const [method, type, sums, runs] = process.argv.slice(2) as [Method, FloatType, string, string];
const [rows, cols] = [1024, 2048];
const scheme = schemeOf(method);
const bytes = normalWeights(rows * cols, type);
const into = outputsOf(scheme, 'x', [rows, cols], type)
  .filter(({ perRow }) => perRow > 0)
  .map((output) => new Uint8Array(output.bytes));

function once(): void {
  // NVFP4 goes over a tensor twice; that is part of what it costs.
  const globalScale = scheme.scale === 'e4m3' ? globalScaleOf(maxAbs(bytes, type), type) : 1;
  const block = { bytes, dtype: type, rows, cols, arithmetic: 'f32' as const, globalScale };
  quantizeRows(scheme, block, into, sums === 'sums' ? { error: 0, signal: 0 } : undefined);
}

/** Weights as models have them: normal, with a standard deviation of 0.02. The same each time. */
function normalWeights(count: number, dtype: FloatType): Uint8Array {
  const values = dtype === 'F32' ? new Int32Array(count) : new Int16Array(count);
  let state = 1;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  for (let i = 0; i < count; i += 1) {
    values[i] = bitsIn(dtype, Math.fround(0.02 * Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform())));
  }
  return new Uint8Array(values.buffer);
}

const repeats = 10;
const speeds: number[] = [];
for (let run = 0; run <= Number(runs); run += 1) {
  const before = process.cpuUsage();
  for (let i = 0; i < repeats; i += 1) once();
  const { user, system } = process.cpuUsage(before);
  if (run > 0) speeds.push((repeats * rows * cols) / ((user + system) / 1e6));
}
process.stdout.write(JSON.stringify(speeds));
