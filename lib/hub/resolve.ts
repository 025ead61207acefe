import { StepError } from '../errors.ts';
import { readBody } from '../http/answer.ts';
import { retry } from '../transfer/retry.ts';
import { follow, type Hub, insist } from './connection.ts';

/** What the Hub says of a model at a revision. */
export interface ModelInfo {
  /** 40 hex digits. */
  commit: string;
  gated: 'auto' | 'manual' | false;
  private: boolean;
  license: string | undefined;
  licenseLink: string | undefined;
  languages: string[];
  tags: string[];
  pipelineTag: string | undefined;
  library: string | undefined;
  /** Front matter of README.md. */
  cardData: Record<string, unknown>;
}

/**
 * Resolves a branch, tag or commit to a commit, once: all else works on that. Throws `not-found`, `denied`, `transient`,
 * and `usage` when what answers is no Hub. Stands apart from the listing, so that a small program can have it alone.
 */
export async function resolveRevision(hub: Hub, repo: string, revision: string): Promise<ModelInfo> {
  const doing = `find ${repo} at ${revision}`;
  const url = `${hub.url}/api/models/${repo}/revision/${encodeURIComponent(revision)}`;
  const body = await retry({ retries: hub.retries, signal: hub.signal, log: hub.log, what: doing }, async () => {
    const { answer } = await follow(hub, url, { accept: 'application/json' }, hub.signal);
    insist(hub, doing, repo, answer);
    return await readBody(answer);
  });
  const said = parse(body);
  if (said === undefined || typeof said.sha !== 'string' || !/^[0-9a-f]{40}$/.test(said.sha)) {
    throw new StepError('usage', `failed to ${doing}: the answer is not that of a Hub`, {
      hint: 'check --hub-url: it must be the Hub or a mirror of it',
    });
  }
  if (typeof said.id === 'string' && said.id !== repo) hub.log.warn({ asked: repo, now: said.id }, 'the model has another name on the Hub');
  const cardData = isRecord(said.cardData) ? said.cardData : {};
  const tags = strings(said.tags);
  return {
    commit: said.sha,
    gated: said.gated === 'auto' || said.gated === 'manual' ? said.gated : false,
    private: said.private === true,
    license: strings(cardData.license)[0] ?? tags.find((tag) => tag.startsWith('license:'))?.slice('license:'.length),
    licenseLink: strings(cardData.license_link)[0],
    languages: strings(cardData.language),
    tags,
    pipelineTag: strings(said.pipeline_tag)[0],
    library: strings(said.library_name)[0],
    cardData,
  };
}

function parse(body: Buffer): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(body.toString('utf8'));
    return isRecord(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function strings(value: unknown): string[] {
  return [value].flat().filter((one): one is string => typeof one === 'string');
}
