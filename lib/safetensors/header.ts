import type { FileHandle } from 'node:fs/promises';
import { StepError } from '../errors.ts';
import { type Dtype, dtypeOf, tensorBytes } from './dtypes.ts';
import { type Json, JsonFault, type JsonObject, parseStrictJson } from './strict-json.ts';

/** One tensor of a file. */
export interface StoredTensor {
  name: string;
  dtype: Dtype;
  shape: readonly number[];
  /** First byte, counted from the file's start. */
  offset: number;
  /** Bytes. */
  size: number;
}

export interface Header {
  metadata: ReadonlyMap<string, string>;
  /** In the order of their bytes: they touch each other, from `dataOffset` to the file's end. */
  tensors: StoredTensor[];
  /** Where the header ends and bytes begin, counted from the file's start. */
  dataOffset: number;
}

/** The format's own limit on a header (https://github.com/huggingface/safetensors#format). */
const maxHeaderBytes = 100_000_000;

/**
 * Reads the header of an open safetensors file by every rule of its format; what a loader might read another way is refused. Reads no tensor.
 * Throws `integrity` naming the file.
 */
export async function readHeader(file: FileHandle, path: string): Promise<Header> {
  const { size } = await file.stat();
  return await readHeaderFrom((offset, into) => readFully(file, into, offset, path), size, path);
}

/** The same for a file of `size` bytes that is anywhere: `read` fills a buffer with the bytes from an offset, and is called in their order. */
export async function readHeaderFrom(read: (offset: number, into: Buffer) => Promise<void>, size: number, path: string): Promise<Header> {
  const fail = failer(path);
  if (size < 8) fail(`it has ${size} bytes, too few for a header`);
  const length = Buffer.alloc(8);
  await read(0, length);
  const headerBytes = length.readBigUInt64LE();
  if (headerBytes > maxHeaderBytes || Number(headerBytes) + 8 > size) fail(`its header would have ${headerBytes} bytes`);
  const bytes = Buffer.allocUnsafeSlow(Number(headerBytes));
  await read(8, bytes);
  return parseHeader(bytes, size, path);
}

/** Fills `into` from that place of a file. Throws `integrity` naming the file when it ends before. */
export async function readFully(file: FileHandle, into: Uint8Array, position: number, path: string): Promise<void> {
  for (let done = 0; done < into.length; ) {
    const { bytesRead } = await file.read(into, done, into.length - done, position + done);
    if (bytesRead === 0) failer(path)(`it ends at byte ${position + done}`);
    done += bytesRead;
  }
}

/** The header of a file of `fileBytes` bytes from the JSON behind its length. Throws `integrity` naming `path`. */
export function parseHeader(json: Uint8Array, fileBytes: number, path: string): Header {
  const fail = failer(path);
  if (json[0] !== 0x7b) fail('its header does not begin with a brace');
  const object = withoutPadding(json);
  if (object.at(-1) !== 0x7d) fail('its header does not end with a brace');
  let parsed: Json;
  try {
    parsed = parseStrictJson(object, { integers: true });
  } catch (error) {
    if (error instanceof JsonFault) return fail(`its header is wrong: ${error.message}`);
    throw error;
  }
  const entries = parsed as JsonObject;
  const metadata = readMetadata(entries.get('__metadata__'), fail);
  entries.delete('__metadata__');
  const dataOffset = 8 + json.length;
  const tensors = [...entries].map(([name, entry]) => readTensor(name, entry, dataOffset, fail));
  tensors.sort((a, b) => a.offset - b.offset || a.size - b.size);
  let end = dataOffset;
  for (const { name, offset, size } of tensors) {
    if (offset !== end) fail(`${quoted(name)} begins at byte ${offset}, what lies before it ends at ${end}`);
    end = offset + size;
  }
  if (end !== fileBytes) fail(`its tensors end at byte ${end}, it has ${fileBytes}`);
  return { metadata, tensors, dataOffset };
}

type Fail = (why: string) => never;

function failer(path: string): Fail {
  return (why) => {
    throw new StepError('integrity', `failed to read ${path}: ${why}`, { hint: 'it is no whole safetensors file: download it again' });
  };
}

function quoted(name: string): string {
  return JSON.stringify(name.length > 200 ? `${name.slice(0, 200)}...` : name);
}

/** A header may be filled up with spaces behind its object, and with nothing else. */
function withoutPadding(json: Uint8Array): Uint8Array {
  let end = json.length;
  while (json[end - 1] === 0x20) end -= 1;
  return json.subarray(0, end);
}

function readMetadata(value: Json | undefined, fail: Fail): Map<string, string> {
  if (value === undefined) return new Map();
  if (!(value instanceof Map)) return fail('__metadata__ is no object');
  for (const [key, each] of value) if (typeof each !== 'string') fail(`__metadata__ ${quoted(key)} is no text`);
  return value as Map<string, string>;
}

function readTensor(name: string, entry: Json, dataOffset: number, fail: Fail): StoredTensor {
  if (!(entry instanceof Map)) return fail(`${quoted(name)} is no object`);
  const extra = [...entry.keys()].find((key) => !['dtype', 'shape', 'data_offsets'].includes(key));
  if (extra !== undefined) fail(`${quoted(name)} has an unknown field ${quoted(extra)}`);
  const dtype = entry.get('dtype');
  const found = typeof dtype === 'string' ? dtypeOf(dtype) : undefined;
  if (found === undefined) return fail(`${quoted(name)} has an unknown dtype`);
  const shape = numbers(entry.get('shape'));
  if (shape === undefined) return fail(`${quoted(name)} has no shape`);
  const [begin, end, more] = numbers(entry.get('data_offsets')) ?? [];
  if (begin === undefined || end === undefined || more !== undefined) return fail(`${quoted(name)} has no data_offsets`);
  const size = tensorBytes(found, shape);
  if (size === undefined) return fail(`${quoted(name)} has a shape of no possible size`);
  if (end - begin !== size) return fail(`${quoted(name)} has ${end - begin} bytes, its shape needs ${size}`);
  return { name, dtype: found, shape, offset: dataOffset + begin, size };
}

function numbers(value: Json | undefined): number[] | undefined {
  return Array.isArray(value) && value.every((each) => typeof each === 'number') ? (value as number[]) : undefined;
}
