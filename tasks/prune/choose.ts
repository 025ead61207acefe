import type { Manifest } from '../../lib/manifest.ts';

/** A published version, as far as pruning asks. */
export interface Version {
  prefix: string;
  uri: string;
  /** Name in the store; versions of one name and method are counted together. */
  name: string;
  manifest: Manifest;
  publishedAt: Date;
  /** What the registry says of its place; undefined: nothing. */
  state: string | undefined;
}

export interface Rules {
  /** Keep so many of the newest. */
  keep: number | undefined;
  /** Keep what is younger (ms). */
  olderThan: number | undefined;
}

/** The versions that go: those beyond the newest ones and old enough, where both are asked, but never one that the registry has in use. */
export function chooseVersions(versions: readonly Version[], { keep, olderThan }: Rules, now: Date): Version[] {
  if (keep === undefined && olderThan === undefined) return [];
  const groups = Map.groupBy(versions, ({ name, manifest }) => JSON.stringify([name, manifest.derived?.method]));
  return [...groups.values()].flatMap((group) =>
    group
      .sort((a, b) => b.publishedAt.getTime() - a.publishedAt.getTime())
      .slice(keep ?? 0)
      .filter(({ publishedAt }) => olderThan === undefined || now.getTime() - publishedAt.getTime() > olderThan)
      .filter(({ state }) => state === undefined),
  );
}
