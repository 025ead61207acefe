import { crc32Base64 } from './checksums.ts';

/** What came of a put for the probe. */
export type Tried = { outcome: 'done'; etag: string } | { outcome: 'precondition' | 'refused' };

/** The calls that the probe needs. */
export interface Prober {
  tryPut(key: string, bytes: Uint8Array, options: { crc32?: string; ifNoneMatch?: '*'; ifMatch?: string }): Promise<Tried>;
  delete(keys: readonly string[]): Promise<void>;
}

/** How a store knows If-Match and If-None-Match on puts: not at all (`none`), as HTTP has it, or with an ETag without its quotes. */
export type Conditions = 'none' | 'quoted' | 'bare';

export interface Probed {
  /** A wrong x-amz-checksum-crc32 is refused, and a right one taken: it protects the bytes on the wire. */
  verifiesCrc32: boolean;
  conditions: Conditions;
}

const bytes = Buffer.from('modelferry asks what this store verifies');

/** Finds out by a few small puts what an S3 other than AWS does; stores tell it in no other way. */
export async function probeStore(store: Prober, key: string): Promise<Probed> {
  const wrong = await store.tryPut(key, bytes, { crc32: crc32Base64(Buffer.from('other bytes')) });
  const right = await store.tryPut(key, bytes, { crc32: crc32Base64(bytes) });
  const conditions = await probeConditions(store, key);
  await store.delete([key]);
  return { verifiesCrc32: wrong.outcome === 'refused' && right.outcome === 'done', conditions };
}

/** Another run may probe at the same key, and take the object away at any moment: what is believed in is a condition that held, or failed, as it must. */
async function probeConditions(store: Prober, key: string): Promise<Conditions> {
  for (let tries = 0; tries < 3; tries += 1) {
    const there = await store.tryPut(key, bytes, {});
    if (there.outcome !== 'done') return 'none';
    const absent = await store.tryPut(key, bytes, { ifNoneMatch: '*' });
    if (absent.outcome === 'refused') return 'none';
    if (absent.outcome === 'done') continue;
    // The digest of nothing that was ever put here.
    const other = await store.tryPut(key, bytes, { ifMatch: `"${'0'.repeat(32)}"` });
    if (other.outcome !== 'precondition') return 'none';
    if ((await store.tryPut(key, bytes, { ifMatch: `"${there.etag}"` })).outcome === 'done') return 'quoted';
    // Ceph compares the header as it is with an ETag that it keeps without quotes (seen with 16.2).
    if ((await store.tryPut(key, bytes, { ifMatch: there.etag })).outcome === 'done' && tries > 0) return 'bare';
  }
  return 'none';
}
