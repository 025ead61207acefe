import { StepError } from '../errors.ts';
import type { Expected } from '../integrity.ts';
import { type StoredFile, storedBytes } from '../publish/control.ts';
import { type Brought, isFile } from '../publish/inventory.ts';
import { shardsFolder } from '../publish/shard-claims.ts';
import type { Store } from '../store.ts';
import type { ReadPlan } from './record.ts';

/** What a shard brought: it is written when all of its files are in the store. */
export interface Report {
  /** Digest of the plan that it belongs to. */
  plan: string;
  uploadedBytes: number;
  copiedBytes: number;
  files: StoredFile[];
}

/** Where a shard's report lies. `shard` as `0/4`. */
export function reportKey(planKey: string, shard: string): string {
  return `${shardsFolder(planKey)}${shard.replace('/', '-of-')}.json`;
}

/** Its bytes: the same form as the record of what is stored, with more in it. */
export function reportBytes({ files, ...report }: Report): Buffer {
  return storedBytes(files, report);
}

/** A shard's report on that plan; undefined when there is none yet. */
export async function readReport(store: Store, { key, sha256 }: ReadPlan, shard: string): Promise<Report | undefined> {
  const found = await store.get(reportKey(key, shard));
  if (found === undefined) return undefined;
  try {
    const report = JSON.parse(found.bytes.toString('utf8')) as Report;
    return report.plan === sha256 && Array.isArray(report.files) ? report : undefined;
  } catch {
    return undefined;
  }
}

/** The files of a report by path. Throws `integrity` naming what differs from the plan. */
export function reportedFiles(store: Store, report: Report, wanted: readonly Expected[], shard: string): Map<string, Brought> {
  const files = new Map(report.files.map((file) => [file.path, file]));
  const wrong = wanted.filter((file) => {
    const found = files.get(file.path);
    return found === undefined || found.size !== file.size || !/^[0-9a-f]{64}$/.test(found.sha256) || !isFile(file, found);
  });
  if (wrong.length > 0 || files.size !== wanted.length) {
    throw new StepError('integrity', `failed to verify shard ${shard}: its report is not about the files of ${store.uri}'s plan`, {
      hint: 'run that shard again',
    });
  }
  return new Map(
    [...files.values()].map(({ path, size, sha256, etag, versionId, checksum }) => [
      path,
      { sha256, info: { key: path, size, etag, versionId, checksum, lastModified: new Date(0) } },
    ]),
  );
}
