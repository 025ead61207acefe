import { createHash, type Hash } from 'node:crypto';
import { S3Error } from './errors.ts';
import { chunkSignature, type SigningContext, sha256 } from './signature.ts';

const emptyHash = sha256('');
const longestLine = 8192;

/**
 * Takes the frames off an aws-chunked body: `<hex size>[;chunk-signature=...]\r\n<bytes>\r\n` up to a chunk of size 0, then trailers.
 * With a signing context every chunk's signature, and the trailers', is verified.
 */
export class AwsChunkedDecoder {
  /** What came behind the last chunk, by lower-case name. */
  readonly trailers = new Map<string, string>();
  readonly #context: SigningContext | undefined;
  readonly #take: (bytes: Buffer) => Promise<void> | undefined;
  #state: 'size' | 'bytes' | 'after' | 'trailer' | 'done' = 'size';
  #line = '';
  #left = 0;
  #previous: string;
  #claimed = '';
  #hash: Hash | undefined;
  #trailerText = '';
  #trailersSigned = false;

  constructor(take: (bytes: Buffer) => Promise<void> | undefined, context?: SigningContext) {
    this.#take = take;
    this.#context = context;
    this.#previous = context?.signature ?? '';
  }

  /** Takes the next bytes of the body; a promise when the taker of the content has to wait. */
  write(input: Buffer): Promise<void> | undefined {
    const waits: Promise<void>[] = [];
    let at = 0;
    while (at < input.length) {
      if (this.#state === 'bytes') {
        const bytes = input.subarray(at, at + this.#left);
        at += bytes.length;
        this.#left -= bytes.length;
        this.#hash?.update(bytes);
        const taken = this.#take(bytes);
        if (taken !== undefined) waits.push(taken);
        if (this.#left === 0) this.#state = 'after';
      } else if (this.#state === 'done') {
        throw new S3Error('IncompleteBody');
      } else {
        const end = input.indexOf(10, at);
        this.#line += input.toString('latin1', at, end < 0 ? input.length : end);
        if (this.#line.length > longestLine) throw new S3Error('InvalidRequest', { message: 'The chunk header is too long' });
        at = end < 0 ? input.length : end + 1;
        if (end >= 0) this.#endLine();
      }
    }
    return waits.length > 0 ? Promise.all(waits).then(() => undefined) : undefined;
  }

  /** Throws when the body broke off. */
  finish(): void {
    if (this.#state !== 'done') throw new S3Error('IncompleteBody');
  }

  #endLine(): void {
    const line = this.#line.replace(/\r$/, '');
    this.#line = '';
    if (this.#state === 'after') {
      this.#checkChunk();
      this.#state = 'size';
    } else if (this.#state === 'size') {
      const header = /^([\da-fA-F]+)(?:;chunk-signature=([\da-f]{64}))?$/.exec(line);
      if (!header) throw new S3Error('IncompleteBody', { message: 'The request body is not aws-chunked' });
      this.#left = Number.parseInt(header[1] ?? '', 16);
      this.#claimed = header[2] ?? '';
      this.#hash = this.#context && createHash('sha256');
      if (this.#left === 0) this.#checkChunk();
      this.#state = this.#left === 0 ? 'trailer' : 'bytes';
    } else if (line === '') {
      if (this.#context && this.#trailerText !== '' && !this.#trailersSigned) throw new S3Error('SignatureDoesNotMatch');
      this.#state = 'done';
    } else {
      this.#trailer(line);
    }
  }

  #trailer(line: string): void {
    const colon = line.indexOf(':');
    if (colon < 1) throw new S3Error('MalformedTrailerError');
    const name = line.slice(0, colon).toLowerCase();
    const value = line.slice(colon + 1).trim();
    if (name !== 'x-amz-trailer-signature') {
      this.#trailerText += `${name}:${value}\n`;
      this.trailers.set(name, value);
    } else if (this.#context && value !== chunkSignature(this.#context, 'TRAILER', this.#previous, [sha256(this.#trailerText)])) {
      throw new S3Error('SignatureDoesNotMatch');
    } else {
      this.#trailersSigned = true;
    }
  }

  #checkChunk(): void {
    if (!this.#context || !this.#hash) return;
    const expected = chunkSignature(this.#context, 'PAYLOAD', this.#previous, [emptyHash, this.#hash.digest('hex')]);
    if (expected !== this.#claimed) throw new S3Error('SignatureDoesNotMatch');
    this.#previous = expected;
  }
}
