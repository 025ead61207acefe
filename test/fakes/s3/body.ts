import { createHash, type Hash, randomBytes } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { AwsChunkedDecoder } from './aws-chunked.ts';
import type { Call } from './call.ts';
import { type Algorithm, algorithms, type Checksums, createHasher, digestBytes, type Hasher } from './checksums.ts';
import { type Content, ContentStore, discardedHeader, keptBelow, type Sink } from './content.ts';
import { S3Error } from './errors.ts';
import { parseXml, type XmlNode } from './xml.ts';

/** A body that arrived whole and is what its headers say. */
export interface Body {
  content: Content;
  md5: Buffer;
  /** The checksum the client sent and any that was asked for besides. */
  checksums: Checksums;
}

interface Declared {
  algorithm: Algorithm;
  /** From the header; undefined when it comes in the trailers. */
  value: string | undefined;
}

/** Receives the body into the store and verifies its length, x-amz-content-sha256, Content-MD5 and x-amz-checksum-*. `also` is computed in any case. */
export function receiveBody(call: Call, also?: Algorithm): Promise<Body> {
  return receive(call, call.world.store.sink(discarded(call)), also);
}

const memory = new ContentStore({});
const longestXml = 4 * 1024 * 1024;

/**
 * Receives a small XML body, verified in the same way; undefined when it is not well formed.
 * `ofObject`: the checksum headers speak of an object, not of this body.
 */
export async function receiveXml(call: Call, { ofObject = false } = {}): Promise<XmlNode | undefined> {
  if (Number(call.header('content-length') ?? 0) > longestXml) throw new S3Error('MalformedXML');
  const { content } = await receive(call, memory.sink(), undefined, ofObject);
  return parseXml(Buffer.concat([...(content.read(0, content.size) as Iterable<Uint8Array>)]).toString());
}

/** The checksum that the headers announce; undefined when there is none or the server does not know any. */
export function declaredChecksum(call: Call): Declared | undefined {
  if (call.settings.checksums !== 'verify') return undefined;
  const sent = call.headersBehind('x-amz-checksum-').filter(([name]) => !['algorithm', 'type', 'mode'].includes(name));
  const trailer = call.header('x-amz-trailer')?.trim().toLowerCase();
  const names = [
    ...sent.map(([name]) => name),
    ...(trailer?.startsWith('x-amz-checksum-') ? [trailer.slice('x-amz-checksum-'.length)] : []),
  ];
  if (names.length > 1) {
    throw new S3Error('InvalidRequest', { message: 'Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.' });
  }
  const [name] = names;
  if (name === undefined) {
    if (call.header('x-amz-sdk-checksum-algorithm') === undefined) return undefined;
    throw new S3Error('InvalidRequest', {
      message: 'x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.',
    });
  }
  const algorithm = algorithms.find((known) => known === name);
  if (!algorithm) throw new S3Error('NotImplemented', { Header: `x-amz-checksum-${name}` });
  return { algorithm, value: sent[0]?.[1] };
}

/** Refuses a checksum that no digest of the algorithm can look like. */
export function checkForm(algorithm: Algorithm, value: string): void {
  if (!/^[A-Za-z\d+/]+={0,2}$/.test(value) || Buffer.from(value, 'base64').length !== digestBytes[algorithm]) {
    throw new S3Error('InvalidRequest', { message: `Value for x-amz-checksum-${algorithm} header is invalid.` });
  }
}

/** The BadDigest that AWS answers to a checksum that is not the body's. */
export function wrongChecksum(algorithm: Algorithm): S3Error {
  return new S3Error('BadDigest', { message: `The ${algorithm.toUpperCase()} you specified did not match the calculated checksum.` });
}

/** An ETag's digest for bodies that were not hashed. */
export function madeUpDigest(): Buffer {
  return randomBytes(16);
}

async function receive(call: Call, sink: Sink, also: Algorithm | undefined, ofObject = false): Promise<Body> {
  const payload = call.header('x-amz-content-sha256') ?? 'UNSIGNED-PAYLOAD';
  const streaming = payload.startsWith('STREAMING-');
  const length = expectedLength(call, payload, streaming);
  const declared = ofObject ? undefined : declaredChecksum(call);
  if (declared?.value !== undefined) checkForm(declared.algorithm, declared.value);
  const contentMd5 = readContentMd5(call);
  const hashing = !(call.settings.fast && length > keptBelow);
  const md5 = hashing ? createHash('md5') : undefined;
  const sha = hashing && /^[\da-f]{64}$/.test(payload) ? createHash('sha256') : undefined;
  const hashers = new Map<Algorithm, Hasher>();
  if (hashing && declared) hashers.set(declared.algorithm, createHasher(declared.algorithm));
  if (hashing && also && also !== declared?.algorithm) hashers.set(also, createHasher(also));
  const watching: { update(chunk: Uint8Array): unknown }[] = [
    ...hashers.values(),
    ...[md5, sha].filter((hash): hash is Hash => hash !== undefined),
  ];
  let size = discarded(call);
  const take = (bytes: Buffer): Promise<void> | undefined => {
    size += bytes.length;
    for (const hasher of watching) hasher.update(bytes);
    return sink.write(bytes);
  };
  const signed = payload.startsWith('STREAMING-AWS4-HMAC-SHA256') && hashing && !call.settings.fast;
  const decoder = streaming ? new AwsChunkedDecoder(take, signed ? call.signing : undefined) : undefined;
  try {
    await eachChunk(call.request, decoder ? (chunk) => decoder.write(chunk) : take);
    decoder?.finish();
    if (size !== length) throw new S3Error('IncompleteBody');
    if (sha && sha.digest('hex') !== payload) throw new S3Error('XAmzContentSHA256Mismatch', { ClientComputedContentSHA256: payload });
    const digest = md5?.digest() ?? madeUpDigest();
    if (md5 && contentMd5 && !contentMd5.equals(digest)) {
      throw new S3Error('BadDigest', { ExpectedDigest: contentMd5.toString('base64'), CalculatedDigest: digest.toString('base64') });
    }
    const checksums = Object.fromEntries([...hashers].map(([algorithm, hasher]) => [algorithm, hasher.digest()])) as Checksums;
    if (declared) {
      const value = declared.value ?? decoder?.trailers.get(`x-amz-checksum-${declared.algorithm}`);
      if (value === undefined) throw new S3Error('MalformedTrailerError');
      if (!hashing) checksums[declared.algorithm] = value;
      else if (checksums[declared.algorithm] !== value) throw wrongChecksum(declared.algorithm);
    }
    return { content: await sink.finish(), md5: digest, checksums };
  } catch (error) {
    await sink.abandon();
    throw error;
  }
}

function discarded(call: Call): number {
  return call.settings.fast ? Number(call.header(discardedHeader) ?? 0) : 0;
}

/** The content's length in bytes as the headers promise it. */
function expectedLength(call: Call, payload: string, streaming: boolean): number {
  if (!/^(?:UNSIGNED-PAYLOAD|[\da-f]{64}|STREAMING-(?:UNSIGNED-PAYLOAD-TRAILER|AWS4-HMAC-SHA256-PAYLOAD(?:-TRAILER)?))$/.test(payload)) {
    throw new S3Error('InvalidArgument', {
      message:
        'x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, or a valid sha256 value.',
      ArgumentName: 'x-amz-content-sha256',
      ArgumentValue: payload,
    });
  }
  if (payload.endsWith('-TRAILER') && call.settings.checksums === 'refused') {
    throw new S3Error('NotImplemented', { Header: 'x-amz-trailer' });
  }
  const gone = discarded(call);
  const text = gone > 0 ? String(gone) : call.header(streaming ? 'x-amz-decoded-content-length' : 'content-length');
  if (text === undefined && !streaming && call.header('transfer-encoding') !== undefined) {
    throw new S3Error('NotImplemented', { Header: 'Transfer-Encoding' });
  }
  if (text === undefined) throw new S3Error('MissingContentLength');
  const length = Number(text);
  if (!/^\d+$/.test(text)) throw new S3Error('InvalidArgument', { ArgumentName: 'x-amz-decoded-content-length', ArgumentValue: text });
  if (length > call.settings.maxPutSize) {
    throw new S3Error('EntityTooLarge', { ProposedSize: length, MaxSizeAllowed: call.settings.maxPutSize });
  }
  return length;
}

function readContentMd5(call: Call): Buffer | undefined {
  const text = call.header('content-md5');
  if (text === undefined) return undefined;
  const digest = Buffer.from(text, 'base64');
  if (digest.length !== 16) throw new S3Error('InvalidDigest', { 'Content-MD5': text });
  return digest;
}

/** Hands every chunk on as it comes, without the copies that a read loop makes, and waits where the taker asks for it. */
function eachChunk(request: IncomingMessage, take: (chunk: Buffer) => Promise<void> | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    if (request.destroyed && !request.complete) reject(new S3Error('RequestTimeout'));
    const fail = (error: unknown): void => {
      request.off('data', onData);
      reject(error);
    };
    const onData = (chunk: Buffer): void => {
      try {
        const wait = take(chunk);
        if (!wait) return;
        request.pause();
        wait.then(() => request.resume(), fail);
      } catch (error) {
        fail(error);
      }
    };
    request.on('data', onData);
    request.once('end', resolve);
    request.once('error', fail);
    request.once('close', () => fail(new S3Error('RequestTimeout')));
  });
}
