import type { LifecycleRule } from '@aws-sdk/client-s3';

/** Rules of ours for one purpose: one for each prefix. */
export interface OwnRules {
  purpose: 'old-versions' | 'unfinished-uploads';
  /** 0: no rules. */
  days: number;
  /** Raw prefixes; `''`: the whole bucket. */
  prefixes: readonly string[];
}

/** The rules as S3 has them. Ours are known by their ids, so that those of others stay as they are. */
export function rulesOf({ purpose, days, prefixes }: OwnRules): LifecycleRule[] {
  if (days === 0) return [];
  return prefixes.map((prefix) => ({
    ID: `${idOf(purpose)}${prefix}`,
    Status: 'Enabled',
    Filter: { Prefix: prefix },
    ...(purpose === 'old-versions'
      ? {
          NoncurrentVersionExpiration: { NoncurrentDays: days },
          // Else every deleted object leaves a marker behind for ever.
          Expiration: { ExpiredObjectDeleteMarker: true },
        }
      : { AbortIncompleteMultipartUpload: { DaysAfterInitiation: days } }),
  }));
}

/** Tells a rule that `own` is in the place of: of its purpose, and for one of its prefixes (or for any, when there are to be none). */
export function isReplaced({ purpose, days, prefixes }: OwnRules): (rule: LifecycleRule) => boolean {
  return ({ ID = '' }) => {
    if (!ID.startsWith(idOf(purpose))) return false;
    return days === 0 || prefixes.includes(ID.slice(idOf(purpose).length));
  };
}

/** True when both say the same, whatever their order and whatever else a store adds. */
export function sameRules(wanted: readonly LifecycleRule[], found: readonly LifecycleRule[]): boolean {
  if (wanted.length !== found.length) return false;
  return wanted.every((rule) => {
    const other = found.find(({ ID }) => ID === rule.ID);
    return (
      other !== undefined &&
      other.Status === rule.Status &&
      (other.Filter?.Prefix ?? other.Prefix ?? '') === rule.Filter?.Prefix &&
      other.NoncurrentVersionExpiration?.NoncurrentDays === rule.NoncurrentVersionExpiration?.NoncurrentDays &&
      other.AbortIncompleteMultipartUpload?.DaysAfterInitiation === rule.AbortIncompleteMultipartUpload?.DaysAfterInitiation
    );
  });
}

/** A rule of the older form, with its prefix outside of a filter, in the newer one: S3 does not take both forms in one document. */
export function withFilter({ Prefix, ...rule }: LifecycleRule): LifecycleRule {
  return rule.Filter === undefined ? { ...rule, Filter: { Prefix: Prefix ?? '' } } : rule;
}

function idOf(purpose: OwnRules['purpose']): string {
  return `modelferry-${purpose}:`;
}
