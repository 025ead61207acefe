import { createHash, createHmac, type Hash, type Hmac } from 'node:crypto';
import { credentialsOf, type S3Settings } from './s3-settings.ts';

export interface Unsigned {
  method: string;
  url: URL;
  headers: Record<string, string>;
}

/** The headers of a request to S3 with its signature (version 4) among them. The signer is loaded when it is first needed: most of a small program's start would be it. */
export async function signed(
  { method, url, headers }: Unsigned,
  { settings, region, signingDate }: { settings: S3Settings; region: string; signingDate: Date },
): Promise<Record<string, string>> {
  const { SignatureV4 } = await import('@smithy/signature-v4');
  const { expiration: _, ...credentials } = await credentialsOf(settings);
  // S3's own signature takes the path as it is sent, without a second encoding.
  const signer = new SignatureV4({ service: 's3', region, credentials, sha256: Sha256, uriEscapePath: false });
  const { protocol, hostname, host, pathname, port, searchParams } = url;
  const request = {
    method,
    protocol,
    hostname,
    path: pathname,
    query: Object.fromEntries(searchParams),
    headers: { host, ...headers },
    ...(port ? { port: Number(port) } : {}),
  };
  return (await signer.sign(request, { signingDate })).headers;
}

/** Node's own hash in the form that the signer asks for. */
class Sha256 {
  readonly #secret: Buffer | undefined;
  #hash: Hash | Hmac;

  constructor(secret?: string | ArrayBuffer | ArrayBufferView) {
    this.#secret = secret === undefined ? undefined : bufferOf(secret);
    this.#hash = this.#start();
  }

  update(data: string | ArrayBuffer | ArrayBufferView): void {
    this.#hash.update(bufferOf(data));
  }

  async digest(): Promise<Uint8Array> {
    return this.#hash.digest();
  }

  reset(): void {
    this.#hash = this.#start();
  }

  #start(): Hash | Hmac {
    return this.#secret === undefined ? createHash('sha256') : createHmac('sha256', this.#secret);
  }
}

function bufferOf(data: string | ArrayBuffer | ArrayBufferView): Buffer {
  if (typeof data === 'string') return Buffer.from(data);
  return ArrayBuffer.isView(data) ? Buffer.from(data.buffer, data.byteOffset, data.byteLength) : Buffer.from(data);
}
