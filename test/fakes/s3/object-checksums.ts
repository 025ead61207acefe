import type { Call } from './call.ts';
import { type Algorithm, algorithms, type Checksums, type ChecksumType, createHasher } from './checksums.ts';
import type { Content } from './content.ts';
import { S3Error } from './errors.ts';
import type { StoredObject } from './state.ts';
import { element, elements } from './xml.ts';

/** Reads all of a content through a hash; undefined when its bytes are gone. */
export async function digestContent(content: Content, algorithm: Algorithm): Promise<string | undefined> {
  if (content.lost) return undefined;
  const hasher = createHasher(algorithm);
  for await (const chunk of content.read(0, content.size)) hasher.update(chunk);
  return hasher.digest();
}

/** Checksums as headers. */
export function checksumHeaders(checksums: Checksums, type: ChecksumType | undefined): Record<string, string | undefined> {
  const headers = Object.entries(checksums).map(([algorithm, value]) => [`x-amz-checksum-${algorithm}`, value]);
  return { ...Object.fromEntries(headers), 'x-amz-checksum-type': headers.length > 0 ? type : undefined };
}

/** Checksums as elements of an answer. */
export function checksumElements(checksums: Checksums, type?: ChecksumType): string[] {
  const values = Object.entries(checksums).map(([algorithm, value]) => element(`Checksum${algorithm.toUpperCase()}`, value));
  return values.length > 0 ? [...values, ...elements({ ChecksumType: type })] : [];
}

/** What a reader who asks with x-amz-checksum-mode gets; objects without a checksum have a CRC64NVME, as AWS gives every object one. */
export async function checksumsToShow(call: Call, object: StoredObject): Promise<Record<string, string | undefined>> {
  if (call.settings.checksums !== 'verify' || call.header('x-amz-checksum-mode')?.toUpperCase() !== 'ENABLED') return {};
  if (Object.keys(object.checksums).length === 0 && !call.settings.fast) {
    const digest = await digestContent(object.content, 'crc64nvme');
    if (digest !== undefined) object.checksums.crc64nvme = digest;
  }
  return checksumHeaders(object.checksums, object.checksumType ?? 'FULL_OBJECT');
}

/** The algorithm that x-amz-checksum-algorithm asks for; undefined without the header or on a server that knows none. */
export function requestedAlgorithm(call: Call): Algorithm | undefined {
  const name = call.header('x-amz-checksum-algorithm')?.toLowerCase();
  if (name === undefined || call.settings.checksums !== 'verify') return undefined;
  const algorithm = algorithms.find((known) => known === name);
  if (algorithm) return algorithm;
  throw new S3Error('InvalidRequest', {
    message:
      'Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]',
  });
}
