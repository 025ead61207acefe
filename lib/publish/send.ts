import { isTransient, kindOf } from '../errors.ts';
import { digestsOf, verifierFor } from '../hashing/verifier.ts';
import type { Digests } from '../hashing/worker.ts';
import type { Expected } from '../integrity.ts';
import type { Progress } from '../progress.ts';
import type { ObjectInfo, Store, UploadedPart } from '../store.ts';
import { Budget } from '../transfer/budget.ts';
import { type BufferPool, sizeForAll } from '../transfer/buffers.ts';
import { moveParts } from '../transfer/parts.ts';
import { type Brought, marksOf, rightSha256 } from './inventory.ts';
import type { SendFile } from './options.ts';
import { buffersFor, cutting, partSizeFor } from './part-size.ts';
import type { RecordFile } from './recorded.ts';
import type { OpenedUpload, Uploads } from './uploads.ts';

/** Where a file's bytes come from: read once, in order. A sender that begins anew opens it again. */
export interface ByteSource {
  /** Fills `into` with the bytes from `offset`. */
  read(offset: number, into: Buffer, signal: AbortSignal): Promise<void>;
  /** Fills `into` with all of it and hashes that in the same turn; undefined where this is not the quicker way. Throws `integrity` as Verifier does. */
  readWhole?(into: Buffer, wants: { wantsCrc32: boolean }): Promise<Digests | undefined>;
  close(): Promise<void>;
}

export interface SenderOptions {
  store: Store;
  open: (file: Expected, signal: AbortSignal) => Promise<ByteSource>;
  /** Bytes; smaller where connections would have no buffer, larger where a file would not fit into the store's number of parts. */
  partSize: number;
  /** Connections to the store, and reads at once from where the bytes come from. */
  connections: Budget;
  sources: Budget;
  buffers: BufferPool;
  progress: Progress;
  /** Told before the parts of a file become its object. */
  onHashed?: RecordFile;
}

/**
 * Sends files: small ones in one put, others in parts that go out side by side while the next is read. Each byte is read once and hashed
 * as it passes; the object is completed only when size and sha256 are the manifest's, else `integrity` is thrown and nothing is there.
 */
export function makeSender(options: SenderOptions): SendFile {
  // More files may be on their way than there are connections, so that one is read while another is sent; large ones have their parts for that.
  const large = new Budget(options.connections.total);
  const { connections, sources, buffers, store } = options;
  return async (file, key, uploads, signal) => {
    // How far the store is, what was asked of it before has told.
    const cut = cutting(options.partSize, buffers.total, buffersFor(store, connections.total, sources.total));
    const partSize = partSizeFor(file.size, cut, store.limits);
    const whole = file.size <= partSize;
    const leave = whole ? () => {} : await large.take(1, signal);
    const fromSource = async <T>(work: (source: ByteSource) => Promise<T>): Promise<T> => {
      const source = await options.open(file, signal);
      return await work(source).finally(() => source.close());
    };
    try {
      if (whole) return await fromSource((source) => sendWhole(options, source, file, key, signal));
      const send = (again: boolean) => fromSource((source) => sendParts(options, source, file, { key, partSize, again }, uploads, signal));
      return (await send(false)) ?? ((await send(true)) as Brought);
    } finally {
      leave();
    }
  };
}

async function sendWhole(
  { store, sources, connections, buffers, progress }: SenderOptions,
  source: ByteSource,
  file: Expected,
  key: string,
  signal: AbortSignal,
): Promise<Brought> {
  const buffer = await buffers.take(file.size, signal);
  const readAndHash = async () => {
    const read = await sources.take(1, signal);
    try {
      await source.read(0, buffer.bytes, signal);
    } finally {
      read();
    }
    return await digestsOf(file, buffer.bytes, store);
  };
  try {
    const { sha256, crc32 } = (await source.readWhole?.(buffer.bytes, store)) ?? (await readAndHash());
    const leave = await connections.take(1, signal);
    try {
      const info = await store.put(key, buffer.bytes, { metadata: marksOf(file, sha256), model: true, crc32 });
      progress.add(file.size);
      return { info, sha256 };
    } finally {
      leave();
    }
  } finally {
    buffer.release();
  }
}

/** Undefined when the upload was gone before it was done: it is worth to begin anew, once. */
async function sendParts(
  options: SenderOptions,
  source: ByteSource,
  file: Expected,
  { key, partSize, again }: { key: string; partSize: number; again: boolean },
  uploads: Uploads,
  signal: AbortSignal,
): Promise<Brought | undefined> {
  const upload = await uploads.begin(key, file, partSize);
  let counted = 0;
  const count = (bytes: number) => {
    counted += bytes;
    options.progress.add(bytes);
  };
  try {
    const sent = await readAndSend(options, source, file, upload, count, signal);
    await options.onHashed?.(file, sent.sha256, signal);
    const brought = await complete(options.store, file, upload, sent.parts, sent.sha256);
    uploads.completed(key);
    return brought;
  } catch (error) {
    if (kindOf(error) === 'integrity') await uploads.abort(key);
    if (again || kindOf(error) !== 'not-found') throw error;
    options.progress.add(-counted);
    if (await isGone(options.store, upload)) {
      const brought = await made(options.store, file, key);
      uploads.completed(key);
      return brought;
    }
    // The store denies what it has a moment later: another upload is worth one try.
    await uploads.abort(key);
    return undefined;
  }
}

/** True when the upload itself is gone: a lifecycle rule or a person aborted it, or an earlier try of this run completed it just now. */
async function isGone(store: Store, upload: OpenedUpload): Promise<boolean> {
  return (await store.listParts(upload)) === undefined;
}

/** Reads and hashes in order; parts that the store has already are only compared. */
async function readAndSend(
  { store, sources, connections, buffers }: SenderOptions,
  source: ByteSource,
  file: Expected,
  upload: OpenedUpload,
  count: (bytes: number) => void,
  signal: AbortSignal,
): Promise<{ parts: UploadedPart[]; sha256: string }> {
  const { partSize } = upload;
  // Half of the buffers are on their way in, the other half out.
  const rangeSize = sizeForAll(partSize, buffers.total, sources.total + connections.total);
  using verifier = verifierFor(file);
  const parts: UploadedPart[] = [];
  await moveParts(
    { connections: sources, buffers, partSize, rangeSize, signal },
    {
      size: file.size,
      from: 0,
      partSize,
      read: (offset, into, ended) => source.read(offset, into, ended),
      hash: verifier,
      async take(bytes, offset, ended) {
        const number = offset / partSize + 1;
        const there = upload.parts.get(number);
        if (there && store.partMatches(there, bytes)) parts[number - 1] = { number, etag: there.etag, checksum: there.checksum };
        else {
          const leave = await connections.take(1, ended);
          try {
            ended.throwIfAborted();
            parts[number - 1] = await store.uploadPart(upload, number, bytes);
          } finally {
            leave();
          }
        }
        count(bytes.length);
      },
    },
  );
  return { parts, sha256: await verifier.finish() };
}

/** A complete whose answer was lost is found by what the object's metadata says of its bytes. */
async function complete(
  store: Store,
  file: Expected,
  upload: OpenedUpload,
  parts: readonly UploadedPart[],
  sha256: string,
): Promise<Brought> {
  try {
    return { info: await store.completeMultipart(upload, parts, file.size), sha256 };
  } catch (error) {
    if (kindOf(error) !== 'not-found' && !isTransient(error)) throw error;
    const found = await made(store, file, upload.key, sha256).catch(() => undefined);
    if (found?.sha256 === sha256) return found;
    throw error;
  }
}

/** The object that lies at a key, when it was made for exactly this file; `known` as for rightSha256. */
async function made(store: Store, file: Expected, key: string, known?: string): Promise<Brought | undefined> {
  const info = await store.head(key);
  const sha256 = info && rightSha256(file, info, known);
  return sha256 === undefined ? undefined : { info: info as ObjectInfo, sha256 };
}
