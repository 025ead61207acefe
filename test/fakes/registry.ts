import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http';
import { keepSecret } from './leaks.ts';
import { type Body, type Kind, Refusal, readFields, rules } from './registry/fields.ts';
import { type Mode, type Row, Table } from './registry/table.ts';
import { FakeServer, type Fault, type ListenOptions, type SeenRequest } from './server.ts';

export interface RegistryOptions {
  /** Whose finders it plays; default v0.2.22. */
  mode?: Mode;
  /** Bearer token that every request must carry. */
  token?: string;
  /** True: names that differ by case are two, as on PostgreSQL; default false, as on MySQL. */
  caseSensitive?: boolean;
}

/** A record as the REST API shows it. */
export interface RegistryRecord extends Body {
  id: string;
  name: string;
  state: string;
}

export const basePath = '/api/model_registry/v1alpha3';

/**
 * A Kubeflow Model Registry (REST v1alpha3: registered models, model versions, model artifacts) that answers as v0.2.22 was seen to, or with
 * the finders of v0.3. Not there: inference services, serving environments, doc artifacts.
 */
export class FakeRegistry {
  readonly server: FakeServer;
  readonly #mode: Mode;
  readonly #token: string | undefined;
  readonly #tables: Record<Kind, Table>;

  constructor({ mode = 'v0.2.22', token, caseSensitive = false }: RegistryOptions = {}) {
    this.#mode = mode;
    this.#token = token;
    const contexts = new Table(mode, caseSensitive);
    this.#tables = { model: contexts, version: contexts, artifact: new Table(mode, caseSensitive) };
    this.server = new FakeServer((request, response) => this.#answer(request, response), 'registry');
    if (token !== undefined) keepSecret(token, 'registry');
  }

  /** `http://127.0.0.1:PORT`, after listen(): what --model-registry-url is set to. */
  get origin(): string {
    return this.server.origin;
  }

  get requests(): SeenRequest[] {
    return this.server.requests;
  }

  /** The records of a kind, oldest first: what tests look at. */
  records(kind: Kind): RegistryRecord[] {
    return this.#tables[kind].rows.filter((row) => row.kind === kind).map((row) => this.#shown(row));
  }

  /** Adds a fault; returns a function that takes it away. */
  fail(fault: Fault): () => void {
    return this.server.fail(fault);
  }

  /** The next requests are answered as by a mesh whose registry is not up yet. */
  warmUp(times: number): void {
    this.fail({ on: /./, times, answer: { status: 503, body: 'upstream connect error or disconnect/reset before headers' } });
  }

  async listen(options?: ListenOptions): Promise<this> {
    await this.server.listen(options);
    return this;
  }

  async close(): Promise<void> {
    await this.server.close();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(piece as Buffer);
    if (this.#token !== undefined && request.headers.authorization !== `Bearer ${this.#token}`) {
      return send(response, request.headers.authorization === undefined ? 401 : 403, 'RBAC: access denied');
    }
    const url = new URL(request.url ?? '/', 'http://registry');
    const path = url.pathname.startsWith(`${basePath}/`) ? url.pathname.slice(basePath.length + 1).split('/') : [];
    const handlers = this.#route(path, url.searchParams, Buffer.concat(pieces).toString());
    if (handlers === undefined) return send(response, 404, '404 page not found\n');
    const handler = handlers[request.method ?? ''];
    if (handler === undefined) return send(response, 405, '');
    try {
      const { status = 200, body } = handler();
      send(response, status, body);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      send(response, error.status, { code: STATUS_CODES[error.status], message: error.message });
    }
  }

  /** What may be done at a path, by method; undefined where there is nothing. */
  #route([first = '', id, below, ...rest]: string[], query: URLSearchParams, text: string): Record<string, () => Answer> | undefined {
    const single = singles[first];
    if (single && id === undefined) return { GET: () => this.#find(single, query) };
    const kind = plurals[first];
    if (kind === undefined || rest.length > 0) return undefined;
    const many = (listed: Kind, parent?: string) => ({
      GET: () => this.#list(listed, parent, query),
      POST: () => this.#create(listed, parent, text),
    });
    if (id === undefined) return many(kind);
    if (below === undefined) return { GET: () => ({ body: this.#shown(this.#row(kind, id)) }), PATCH: () => this.#update(kind, id, text) };
    if (kind === 'model' && below === 'versions') return many('version', id);
    if (kind === 'version' && below === 'artifacts') return many('artifact', id);
    return undefined;
  }

  #list(kind: Kind, parent: string | undefined, query: URLSearchParams): Answer {
    this.#checkQuery(query);
    const { items, ...page } = this.#tables[kind].list(kind, parent, query);
    return { body: { items: items.map((row) => this.#shown(row)), size: items.length, ...page } };
  }

  #find(kind: Kind, query: URLSearchParams): Answer {
    this.#checkQuery(query);
    const name = query.get('name') ?? undefined;
    const externalId = query.get('externalId') ?? undefined;
    const parent = query.get('parentResourceId') ?? undefined;
    if (externalId === undefined && (name === undefined || (kind === 'version' && parent === undefined))) {
      throw new Refusal(400, 'invalid parameters call, supply either name or externalId: bad request');
    }
    const found = this.#tables[kind].find(kind, parent, name, externalId);
    const [row] = found;
    const asked = `name=${name ?? ''}, externalId=${externalId ?? ''}`;
    if (row === undefined) throw new Refusal(404, `no ${rules[kind].words}s found for ${asked}: not found`);
    if (found.length > 1) throw new Refusal(404, `multiple ${rules[kind].words}s found for ${asked}: not found`);
    return { body: this.#shown(row) };
  }

  #create(kind: Kind, parent: string | undefined, text: string): Answer {
    const { id, ...fields } = readFields(kind, text, 'create');
    if (kind === 'artifact' && fields.artifactType !== 'model-artifact') {
      throw new Refusal(400, 'invalid artifact type, must be either ModelArtifact or DocArtifact: bad request');
    }
    // A POST with an id is an update: only artifacts have that.
    if (id !== undefined) return { body: this.#shown(this.#tables[kind].update(this.#row(kind, String(id)), fields)) };
    const owner = kind === 'version' ? String(fields.registeredModelId) : parent;
    return { status: 201, body: this.#shown(this.#tables[kind].insert(kind, owner, fields)) };
  }

  #update(kind: Kind, id: string, text: string): Answer {
    const fields = readFields(kind, text, 'update');
    const shown = this.#shown(this.#tables[kind].update(this.#row(kind, id), fields));
    // v0.2.22 answers a PATCH without the lists that it did not change, though it keeps them.
    if (this.#mode === 'v0.2.22') for (const name of ['language', 'tasks']) if (fields[name] === undefined) delete shown[name];
    return { body: shown };
  }

  #row(kind: Kind, id: string): Row {
    const row = this.#tables[kind].byId(kind, id);
    if (row === undefined) throw new Refusal(404, `no ${rules[kind].words} found for id ${id}: not found`);
    return row;
  }

  #checkQuery(query: URLSearchParams): void {
    const strange = this.#mode === 'v0.3' && [...query.values()].some((value) => /[^\x20-\x7e]/.test(value));
    if (strange) throw new Refusal(400, 'invalid query parameter: must be printable ASCII: bad request');
  }

  #shown({ id, fields, created, updated }: Row): RegistryRecord {
    const times = { createTimeSinceEpoch: String(created), lastUpdateTimeSinceEpoch: String(updated) };
    return { customProperties: {}, ...structuredClone(fields), ...times, id } as unknown as RegistryRecord;
  }
}

interface Answer {
  status?: number;
  body: Body;
}

const singles: Record<string, Kind> = { registered_model: 'model', model_version: 'version', model_artifact: 'artifact' };
const plurals: Record<string, Kind> = { registered_models: 'model', model_versions: 'version', model_artifacts: 'artifact' };

/** Text goes as the Go server and the mesh before it send it, everything else as JSON. */
function send(response: ServerResponse, status: number, body: string | Body): void {
  const text = typeof body === 'string' ? body : `${JSON.stringify(body)}\n`;
  const type = typeof body === 'string' ? 'text/plain; charset=utf-8' : 'application/json; charset=UTF-8';
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(text), vary: 'Origin' });
  response.end(text);
}
