import { crc32Base64 } from './checksums.ts';

/** The one call that the probe needs. */
export interface Prober {
  tryPut(key: string, bytes: Uint8Array, options: { crc32?: string; absent?: boolean }): Promise<'done' | 'precondition' | 'refused'>;
  delete(keys: readonly string[]): Promise<void>;
}

export interface Probed {
  /** A wrong x-amz-checksum-crc32 is refused, and a right one taken: it protects the bytes on the wire. */
  verifiesCrc32: boolean;
  /** If-None-Match: * is honoured. */
  conditionalWrites: boolean;
}

/** Finds out by a few small puts what an S3 other than AWS does; stores tell it in no other way. */
export async function probeStore(store: Prober, key: string): Promise<Probed> {
  const bytes = Buffer.from('modelferry asks what this store verifies');
  const wrong = crc32Base64(Buffer.from('other bytes'));
  const wrongTaken = await store.tryPut(key, bytes, { crc32: wrong });
  const rightTaken = await store.tryPut(key, bytes, { crc32: crc32Base64(bytes) });
  // The object must be there for the condition to fail.
  if (wrongTaken !== 'done' && rightTaken !== 'done') await store.tryPut(key, bytes, {});
  let again = await store.tryPut(key, bytes, { absent: true });
  // Taken: conditions are ignored, or another run that probes took the object away just now. Then ours is there again.
  for (let more = 2; again === 'done' && more > 0; more -= 1) again = await store.tryPut(key, bytes, { absent: true });
  await store.delete([key]);
  return { verifiesCrc32: wrongTaken === 'refused' && rightTaken === 'done', conditionalWrites: again === 'precondition' };
}
