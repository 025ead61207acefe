export type LintProfile = 'all' | 'vllm' | 'runai' | 'kserve' | 'ray';

export interface Finding {
  severity: 'error' | 'warning';
  rule: string;
  /** In words, for people. */
  text: string;
}

export interface LintFile {
  path: string;
  /** Bytes. */
  size: number;
}

/** A model as the rules see it. */
export interface LintModel {
  files: readonly LintFile[];
  /** What the small JSON files hold, by path; undefined for one that is no JSON object. */
  json: ReadonlyMap<string, Record<string, unknown> | undefined>;
}
