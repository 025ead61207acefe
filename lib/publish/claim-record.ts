import type { LockHolder } from '../holder.ts';

/** An unfinished multipart upload that a claim names: whose it is, and what for. */
export interface ClaimedUpload {
  uploadId: string;
  /** Of the whole file, `sha256:<hex>`, `git-sha1:<hex>` or `recipe:<hex>`: only equal bytes are gone on with. */
  digest: string;
  partSize: number;
}

/** A claim that many processes hold at once, because they all name the same plan. */
export interface PlanHold {
  /** The plan's record. */
  key: string;
  /** ms that the claim is held while none of the plan's processes runs: their pods may have to wait for a node. */
  holdMs: number;
}

/** The claim as it lies in the store. */
export interface ClaimRecord {
  schemaVersion: 1;
  /** Same for every try of one run, so that a retry takes its own claim over at once. */
  runId: string;
  /** Differs for every process: two tries of one run cannot both hold it. For a plan: its sha256. */
  holder: string;
  plan?: PlanHold | undefined;
  /** Which process that is, so that a run on the same machine sees when it is gone. */
  process?: LockHolder | undefined;
  contentDigest: string;
  /** When this claim was first made, by the store's clock (ISO 8601). */
  since: string;
  /** Its holder ended in good order before it was done: anyone may go on. */
  released: boolean;
  /** Keys that are sent in parts: an upload there that has no name yet is this claim's too. */
  keys: string[];
  uploads: Record<string, ClaimedUpload>;
}

/** The bytes of a claim's object. */
export function claimBytes(record: ClaimRecord): Buffer {
  return Buffer.from(`${JSON.stringify(record, null, 2)}\n`);
}

/** A record that cannot be read is nobody's. */
export function parseClaim(bytes: Buffer): ClaimRecord | undefined {
  try {
    const record = JSON.parse(bytes.toString('utf8')) as Partial<ClaimRecord>;
    if (typeof record.runId !== 'string' || typeof record.holder !== 'string') return undefined;
    return {
      schemaVersion: 1,
      runId: record.runId,
      holder: record.holder,
      process: record.process,
      plan: record.plan,
      contentDigest: String(record.contentDigest),
      since: Number.isNaN(Date.parse(String(record.since))) ? new Date(0).toISOString() : String(record.since),
      released: record.released === true,
      keys: Array.isArray(record.keys) ? record.keys.map(String) : [],
      uploads: record.uploads ?? {},
    };
  } catch {
    return undefined;
  }
}
