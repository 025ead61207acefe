import { isDeepStrictEqual } from 'node:util';
import { StepError } from '../errors.ts';
import { Connection, type Json, quoted, type RegistryOptions } from './connection.ts';
import { type Properties, sendable } from './properties.ts';

export type Kind = 'model' | 'version' | 'artifact';

/** A record of the registry, as far as we look into it. */
export interface Entry {
  id: string;
  name: string;
  externalId?: string;
  state?: string;
  uri?: string;
  customProperties?: Properties;
  [field: string]: unknown;
}

/** What a dry run would write. */
export interface Change {
  action: 'make' | 'change';
  record: (typeof kinds)[Kind]['words'];
  name: string;
  /** Of a change: those that differ. */
  fields: Json;
}

const kinds = {
  model: { words: 'registered model', one: 'registered_model', many: 'registered_models' },
  version: { words: 'model version', one: 'model_version', many: 'model_versions' },
  artifact: { words: 'model artifact', one: 'model_artifact', many: 'model_artifacts' },
} as const;

/** Names are stored with `<parent id>:` before them, 255 characters in all. */
const maxName = 240;
const pageSize = 100;

/** A name as the registry and its clients can carry it. Throws `usage`: `:` parts parent and name there, and `/` parts a model:// URI. */
export function checkName(what: string, name: string): void {
  const fault =
    name === '' ? 'it is empty' : /[:/]/.test(name) ? 'it has ":" or "/" in it' : name.length > maxName ? 'it is too long' : undefined;
  if (fault !== undefined) throw new StepError('usage', `failed to use ${what} ${quoted(name)}: ${fault}`);
}

/**
 * The Kubeflow Model Registry (REST v1alpha3), versions v0.2.22 to v0.3. Its finders differ (exact, or SQL's LIKE), so that every answer is
 * compared again here. All calls throw as Connection does. With `dryRun` nothing is written: what would be is told to it.
 */
export class Registry {
  readonly #connection: Connection;
  readonly #dryRun: ((change: Change) => void) | undefined;

  constructor(options: RegistryOptions & { dryRun?: ((change: Change) => void) | undefined }) {
    this.#connection = new Connection(options);
    this.#dryRun = options.dryRun;
  }

  /** The record of exactly that name (below that parent, for versions and artifacts). */
  async find(kind: Kind, name: string, parentId?: string): Promise<Entry | undefined> {
    if (kind !== 'model' && parentId === '') return undefined;
    const is = (entry: Entry) => entry.name === name && (kind !== 'version' || entry.registeredModelId === parentId);
    // A version has few artifacts, and the list of them means the same on every server.
    if (kind === 'artifact') return (await this.list(kind, parentId)).find(is);
    if (/^[\x20-\x7e]+$/.test(name)) {
      const query = new URLSearchParams({ name, ...(parentId === undefined ? {} : { parentResourceId: parentId }) });
      const found = await this.#one(kind, query);
      if (found && is(found)) return found;
      // LIKE without a wildcard is exact, but for case: nothing else can be of that name.
      if (!/[%_\\]/.test(name)) return undefined;
    }
    return (await this.list(kind, parentId, name)).find(is);
  }

  /** The record that holds an externalId; on MySQL those that differ by case only are one. */
  async findByExternalId(kind: Kind, externalId: string): Promise<Entry | undefined> {
    const is = (entry: Entry) => String(entry.externalId).toLowerCase() === externalId.toLowerCase();
    if (!/^[\x20-\x7e]+$/.test(externalId)) return (await this.list(kind)).find(is);
    const found = await this.#one(kind, new URLSearchParams({ externalId }));
    return found && is(found) ? found : undefined;
  }

  /** The record of that id; undefined when there is none. */
  async get(kind: Kind, id: string): Promise<Entry | undefined> {
    const { words, many } = kinds[kind];
    const { status, body } = await this.#connection.call(`read ${words} ${id}`, 'GET', `${many}/${encodeURIComponent(id)}`);
    return status === 200 ? entryOf(body) : undefined;
  }

  /** All records of a kind (below a parent), page by page; the name only saves pages where the server filters. */
  async list(kind: Kind, parentId?: string, name?: string): Promise<Entry[]> {
    const { words, many } = kinds[kind];
    const below = kind === 'version' ? `registered_models/${parentId}/versions` : `model_versions/${parentId}/artifacts`;
    const path = parentId === undefined ? many : below;
    const query = new URLSearchParams({ pageSize: String(pageSize) });
    // The names of versions and artifacts have another form in the database, which a filter would be compared with.
    if (kind === 'model' && name !== undefined && !/['"\\]|[^\x20-\x7e]/.test(name)) query.set('filterQuery', `name = '${name}'`);
    const entries: Entry[] = [];
    const seen = new Set<string>();
    for (;;) {
      const { status, body } = await this.#connection.call(`list ${words}s`, 'GET', `${path}?${query}`);
      // Below a parent that is gone there is nothing; what knows no list at all is no registry, and must not be taken for an empty one.
      if (status === 404 && parentId !== undefined) return entries;
      if (!Array.isArray(body.items)) throw noRegistry('it has no items');
      const items = body.items as (Json | null)[];
      entries.push(...items.filter((item) => kind !== 'artifact' || item?.artifactType === 'model-artifact').map(entryOf));
      const { nextPageToken: next } = body;
      if (typeof next !== 'string' || next === '' || seen.has(next)) return entries;
      seen.add(next);
      query.set('nextPageToken', next);
    }
  }

  /** Makes a record; undefined when its name or externalId is taken (the registry does not say which). */
  async create(kind: Kind, fields: Json & { name: string }, parentId?: string): Promise<Entry | undefined> {
    const { words, many } = kinds[kind];
    const body: Json = { ...fields };
    if (kind === 'version') body.registeredModelId = parentId;
    if (kind === 'artifact') body.artifactType = 'model-artifact';
    if (this.#dryRun) {
      this.#dryRun({ action: 'make', record: words, name: fields.name, fields });
      return { id: '', ...fields } as Entry;
    }
    const path = kind === 'artifact' ? `model_versions/${parentId}/artifacts` : many;
    const { status, body: made } = await this.#connection.call(`make ${words} ${quoted(fields.name)}`, 'POST', path, body);
    return status === 409 ? undefined : entryOf(made);
  }

  /**
   * Changes what differs, and asks nothing when nothing does; undefined when the new externalId is taken. A PATCH replaces all
   * customProperties, and resets a state that it does not name (v0.2.22): so it carries both, those of others too.
   */
  async change(kind: Kind, entry: Entry, fields: Json, properties: Properties = {}): Promise<Entry | undefined> {
    const { words, many } = kinds[kind];
    const before = entry.customProperties ?? {};
    const changed = Object.fromEntries(
      Object.entries(fields).filter(([name, value]) => value !== undefined && !isDeepStrictEqual(entry[name], value)),
    );
    const added = Object.fromEntries(Object.entries(properties).filter(([name, value]) => !isDeepStrictEqual(before[name], value)));
    const isAdding = Object.keys(added).length > 0;
    if (Object.keys(changed).length === 0 && !isAdding) return entry;
    const kept = entry.state === undefined ? {} : { state: entry.state };
    const body = { ...kept, ...changed, customProperties: { ...sendable(before), ...properties } };
    if (this.#dryRun) {
      const differing = { ...changed, ...(isAdding ? { customProperties: added } : {}) };
      this.#dryRun({ action: 'change', record: words, name: entry.name, fields: differing });
      return { ...entry, ...body };
    }
    const doing = `change ${words} ${quoted(entry.name)}`;
    const { status, body: made } = await this.#connection.call(doing, 'PATCH', `${many}/${entry.id}`, body);
    if (status === 404) throw new StepError('not-found', `failed to ${doing}: record ${entry.id} is gone`);
    // v0.2.22 leaves lists that it keeps out of its answer.
    return status === 409 ? undefined : { ...entry, ...entryOf(made) };
  }

  async #one(kind: Kind, query: URLSearchParams): Promise<Entry | undefined> {
    const { words, one } = kinds[kind];
    const { status, body } = await this.#connection.call(`find ${words} ${quoted([...query.values()][0] ?? '')}`, 'GET', `${one}?${query}`);
    return status === 200 ? entryOf(body) : undefined;
  }
}

/** A page that is no registry's may hold anything. */
function entryOf(body: Json | null): Entry {
  if (typeof body?.id !== 'string' || body.id === '') {
    throw noRegistry('it has no id');
  }
  return { ...body, id: body.id, name: typeof body.name === 'string' ? body.name : '' };
}

function noRegistry(why: string): StepError {
  return new StepError('usage', `failed to read an answer of the registry: ${why}`, {
    hint: 'check --model-registry-url: what answers there is no registry',
  });
}
