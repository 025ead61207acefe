import { messageOf, oneLine, StepError } from '../errors.ts';
import { type HttpAnswer, readBody } from '../http/answer.ts';
import { send } from '../http/request.ts';
import type { Log } from '../log.ts';
import { shownUrl } from '../shown-url.ts';
import { retry, retryAfterMs } from '../transfer/retry.ts';

export interface RegistryOptions {
  /** As the user gave it: the host alone will do. */
  url: string;
  token?: string | undefined;
  /** Tries after the first. */
  retries: number;
  /** ms */
  stallTimeout: number;
  signal: AbortSignal;
  log: Log;
}

export type Json = Record<string, unknown>;

export interface Reply {
  /** 200 or 201, or 404 or 409 in the registry's own words. */
  status: number;
  body: Json;
}

const basePath = '/api/model_registry/v1alpha3';
const example = "a registry's address looks like http://model-registry-service.kubeflow.svc.cluster.local:8080";

/** The address of the REST API: the base path is added unless it is there. Throws `usage` for what is no address. */
export function registryUrl(given: string): string {
  const url = URL.canParse(given) ? new URL(given) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.search !== '' || url.hash !== '' || url.username !== '') {
    // What stands before an @ may be a secret.
    const shown = given.replace(/^.*@/, '...@');
    throw new StepError('usage', `failed to use --model-registry-url ${shown}: it is no http or https address`, { hint: example });
  }
  const path = url.pathname.replace(/\/+$/, '');
  if (path.endsWith(basePath)) return `${url.origin}${path}`;
  if (path.endsWith('/api/model_registry')) return `${url.origin}${path}/v1alpha3`;
  return `${url.origin}${path}${basePath}`;
}

/** Requests to the REST API, tried again while they may pass. */
export class Connection {
  readonly #url: string;
  readonly #options: RegistryOptions;

  constructor(options: RegistryOptions) {
    this.#url = registryUrl(options.url);
    this.#options = options;
  }

  /**
   * One call; `doing` names it in errors, behind "failed to". Throws `denied`, `transient`, `usage` when what answers is no registry,
   * and `bug` when the registry does not understand us. A redirect is not followed, so that the token stays where it was meant to go.
   */
  async call(doing: string, method: string, path: string, body?: Json): Promise<Reply> {
    const { retries, signal, log } = this.#options;
    const work = async (): Promise<Reply> => {
      const answer = await this.#send(doing, method, path, body);
      const text = (await readBody(answer)).toString('utf8');
      const said = parse(text);
      const { status } = answer;
      const ours = [200, 201, 404, 409].includes(status);
      if (ours && said !== undefined && (status < 300 || typeof said.message === 'string')) return { status, body: said };
      throw this.#failure(doing, answer, said, text);
    };
    try {
      return await retry({ retries, signal, log, what: doing }, work);
    } catch (error) {
      // Bytes may be spoilt on the way once; a server that speaks no TLS never does.
      throw /^(EPROTO|ERR_SSL_)/.test(codeOf(error)) ? this.#foreign(doing, 'TLS', error) : error;
    }
  }

  async #send(doing: string, method: string, path: string, body: Json | undefined): Promise<HttpAnswer> {
    const { token, signal, stallTimeout } = this.#options;
    const headers: Record<string, string> = { accept: 'application/json' };
    if (token !== undefined) headers.authorization = `Bearer ${token}`;
    if (body !== undefined) headers['content-type'] = 'application/json';
    const text = body && JSON.stringify(body);
    try {
      return await send(`${this.#url}/${path}`, { method, headers, body: text, signal, stallTimeout });
    } catch (error) {
      // Node's codes for bytes that are no HTTP.
      throw codeOf(error).startsWith('HPE_') ? this.#foreign(doing, 'HTTP', error) : error;
    }
  }

  #foreign(doing: string, protocol: 'HTTP' | 'TLS', cause: unknown): StepError {
    return new StepError('usage', `failed to ${doing}: it does not speak ${protocol} (${shownUrl(this.#url)})`, { hint: example, cause });
  }

  #failure(doing: string, { status, headers }: HttpAnswer, said: Json | undefined, text: string): StepError {
    const where = shownUrl(this.#url);
    const words = oneLine(typeof said?.message === 'string' ? said.message : text).slice(0, 300);
    const make = (kind: StepError['kind'], why: string, hint?: string) => new StepError(kind, `failed to ${doing}: ${why}`, { hint });
    if (status === 401 || status === 403) {
      // Envoy, which Istio puts before the registry, says of its own refusals that they come from it.
      const mesh = /envoy/.test(String(headers.server)) || text.startsWith('RBAC:');
      const hint = mesh
        ? "the service mesh refuses it: an AuthorizationPolicy must let this pod's service account in, or MODEL_REGISTRY_TOKEN must be its token"
        : 'set MODEL_REGISTRY_TOKEN, or KF_PIPELINES_SA_TOKEN_PATH to the file of a token that may use it';
      return make('denied', `the answer is ${status}${words ? `: ${words}` : ''}`, hint);
    }
    if (status === 408 || status === 425 || status === 429 || status >= 500) {
      const why = `failed to ${doing}: the answer is ${status}${words ? `: ${words}` : ''}`;
      return new StepError('transient', why, { retryAfterMs: retryAfterMs(headers['retry-after']) });
    }
    if (status >= 300 && status < 400) {
      const to = headers.location === undefined ? '' : ` to ${shownTarget(headers.location, where)}`;
      return make('usage', `${where} redirects${to} instead of answering`, example);
    }
    if (said === undefined || typeof said.message !== 'string') {
      const type = headers['content-type'] ?? 'an answer of no type';
      return make('usage', `${where} is no registry: it answers ${status} with ${type}`, example);
    }
    return make('bug', `the registry does not understand it (${status}): ${words}`, 'v0.2.22 and v0.3 of the registry are known to work');
  }
}

function parse(text: string): Json | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : undefined;
  } catch {
    return undefined;
  }
}

/** A redirect's target without its query, where sessions and tokens are. */
function shownTarget(location: string, base: string): string {
  return URL.canParse(location, base) ? shownUrl(new URL(location, base)) : 'no address';
}

/** The code of what failed below HTTP, which `send` has wrapped. */
function codeOf(error: unknown): string {
  const cause = error instanceof StepError ? error.cause : error;
  return cause instanceof Error && 'code' in cause ? String(cause.code) : '';
}

/** Names a thing in a message. */
export function quoted(name: string): string {
  return JSON.stringify(messageOf(name));
}
