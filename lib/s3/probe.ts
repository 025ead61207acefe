import { PutObjectCommand } from '@aws-sdk/client-s3';
import { crc32Base64 } from './checksums.ts';
import { type Conditions, leaveUnsigned, type S3Connection } from './connection.ts';
import { unquoted } from './values.ts';

export interface Probed {
  /** A wrong x-amz-checksum-crc32 is refused, and a right one taken: it protects the bytes on the wire. */
  verifiesCrc32: boolean;
  conditions: Conditions;
}

const bytes = Buffer.from('modelferry asks what this store verifies');

/** Finds out by a few small puts what an S3 other than AWS does; stores tell it in no other way. Their object is the caller's to delete. */
export async function probeStore(s3: S3Connection, key: string): Promise<Probed> {
  const wrong = await tryPut(s3, key, bytes, { crc32: crc32Base64(Buffer.from('other bytes')) });
  const right = await tryPut(s3, key, bytes, { crc32: crc32Base64(bytes) });
  const conditions = await probeConditions(s3, key);
  return { verifiesCrc32: wrong.outcome === 'refused' && right.outcome === 'done', conditions };
}

/** Another run may probe at the same key, and take the object away at any moment: what is believed in is a condition that held, or failed, as it must. */
async function probeConditions(s3: S3Connection, key: string): Promise<Conditions> {
  for (let tries = 0; tries < 3; tries += 1) {
    const there = await tryPut(s3, key, bytes, {});
    if (there.outcome !== 'done') return 'none';
    const absent = await tryPut(s3, key, bytes, { ifNoneMatch: '*' });
    if (absent.outcome === 'refused') return 'none';
    if (absent.outcome === 'done') continue;
    // The digest of nothing that was ever put here.
    const other = await tryPut(s3, key, bytes, { ifMatch: `"${'0'.repeat(32)}"` });
    if (other.outcome !== 'precondition') return 'none';
    if ((await tryPut(s3, key, bytes, { ifMatch: `"${there.etag}"` })).outcome === 'done') return 'quoted';
    // Ceph compares the header as it is with an ETag that it keeps without quotes (seen with 16.2).
    if ((await tryPut(s3, key, bytes, { ifMatch: there.etag })).outcome === 'done' && tries > 0) return 'bare';
  }
  return 'none';
}

/** What came of a put for the probe. */
type Tried = { outcome: 'done'; etag: string } | { outcome: 'precondition' | 'refused' };

/** One put, with a crc32 header that may be wrong on purpose; tells what came of it instead of throwing. */
async function tryPut(
  s3: S3Connection,
  key: string,
  body: Uint8Array,
  { crc32, ifNoneMatch, ifMatch }: { crc32?: string; ifNoneMatch?: '*'; ifMatch?: string },
): Promise<Tried> {
  const input = {
    Bucket: s3.bucket,
    Key: key,
    Body: body,
    ContentLength: body.length,
    ...s3.encryption(),
    ...(crc32 === undefined ? {} : { ChecksumCRC32: crc32 }),
    ...(ifNoneMatch === undefined ? {} : { IfNoneMatch: ifNoneMatch }),
    ...(ifMatch === undefined ? {} : { IfMatch: ifMatch }),
  };
  return await s3.send(`probe ${key}`, async (client, sent): Promise<Tried> => {
    const command = new PutObjectCommand(input);
    if (crc32 !== undefined) leaveUnsigned(command);
    try {
      const { ETag } = await client.send(command, sent);
      return { outcome: 'done', etag: unquoted(ETag) };
    } catch (error) {
      const { name, $metadata } = error as { name?: string; $metadata?: { httpStatusCode?: number } };
      const status = $metadata?.httpStatusCode;
      if (status === 412 || (status === 404 && name === 'NoSuchKey')) return { outcome: 'precondition' };
      if (status === 400 || status === 501) return { outcome: 'refused' };
      throw error;
    }
  });
}
