import { type Body, type Kind, Refusal, rules } from './fields.ts';

export type Mode = 'v0.3' | 'v0.2.22';

/** One record; `stored` is its name in the database, which has the parent's id before it. */
export interface Row {
  id: string;
  kind: Kind;
  parent: string | undefined;
  stored: string;
  fields: Body;
  created: number;
  updated: number;
}

export interface Listing {
  items: Row[];
  nextPageToken: string;
  pageSize: number;
}

/** A table of the registry's database, with its unique keys: models and versions share one, artifacts have another. */
export class Table {
  readonly rows: Row[] = [];
  readonly #mode: Mode;
  /** MySQL compares text without case, PostgreSQL with it. */
  readonly #fold: (text: string) => string;
  #lastId = 0;

  constructor(mode: Mode, caseSensitive: boolean) {
    this.#mode = mode;
    this.#fold = caseSensitive ? (text) => text : (text) => text.toLowerCase();
  }

  /** Adds a record. 409 for a name or an externalId that is taken, with a text that speaks of the name in both cases. */
  insert(kind: Kind, parent: string | undefined, fields: Body): Row {
    // A failed insert uses an id up too, as auto-increment does.
    this.#lastId += 1;
    const name = String(fields.name);
    const stored = parent === undefined ? name : `${parent}:${name}`;
    const state = fields.state ?? rules[kind].defaultState;
    const row: Row = {
      id: String(this.#lastId),
      kind,
      parent,
      stored,
      fields: { ...fields, state },
      created: Date.now(),
      updated: Date.now(),
    };
    this.#check(row);
    this.rows.push(row);
    return row;
  }

  /** Changes a record: fields that are not given stay, customProperties are replaced whole. */
  update(row: Row, fields: Body): Row {
    const before = row.fields.customProperties as Record<string, Body> | undefined;
    const keepsStruct = fields.customProperties === undefined && Object.values(before ?? {}).some((one) => 'struct_value' in one);
    if (this.#mode === 'v0.2.22' && keepsStruct) {
      throw new Refusal(400, 'error setting field CustomProperties: bad request: unable to decode illegal base64 data: bad request');
    }
    const state = fields.state ?? (this.#mode === 'v0.2.22' ? rules[row.kind].defaultState : row.fields.state);
    const after: Row = { ...row, fields: { ...row.fields, ...fields, state }, updated: Date.now() };
    this.#check(after);
    return Object.assign(row, after);
  }

  byId(kind: Kind, id: string): Row | undefined {
    if (!/^\d+$/.test(id)) throw new Refusal(400, `strconv.ParseInt: parsing ${JSON.stringify(id)}: invalid syntax: bad request`);
    return this.rows.find((row) => row.kind === kind && row.id === id);
  }

  /** v0.3 finds by LIKE, where `_` and `%` are wildcards and two hits are none; v0.2.22 by `=`. externalId is always exact. */
  find(kind: Kind, parent: string | undefined, name: string | undefined, externalId: string | undefined): Row[] {
    const rows = this.rows.filter((row) => row.kind === kind);
    if (name === undefined) return rows.filter((row) => this.#same(row.fields.externalId, externalId));
    if (this.#mode === 'v0.2.22') {
      const stored = parent === undefined ? name : `${parent}:${name}`;
      return rows.filter((row) => this.#same(row.stored, stored));
    }
    const wanted = kind === 'model' ? name : `${parent ?? '%'}:${name}`;
    const like = likePattern(this.#fold(wanted));
    return rows.filter((row) => like.test(this.#fold(row.stored)) && (parent === undefined || row.parent === parent));
  }

  list(kind: Kind, parent: string | undefined, query: URLSearchParams): Listing {
    const filter = this.#mode === 'v0.3' ? readFilter(query.get('filterQuery')) : undefined;
    const rows = this.rows.filter((row) => row.kind === kind && (parent === undefined || row.parent === parent));
    const filtered = filter ? rows.filter((row) => this.#same(row.fields[filter.field], filter.value)) : rows;
    const key = { CREATE_TIME: 'created', LAST_UPDATE_TIME: 'updated' }[query.get('orderBy') ?? ''] as 'created' | 'updated' | undefined;
    const sign = query.get('sortOrder') === 'DESC' ? -1 : 1;
    const sorted = filtered.toSorted((a, b) => sign * ((key ? a[key] - b[key] : 0) || Number(a.id) - Number(b.id)));
    const token = query.get('nextPageToken');
    const last = token ? Buffer.from(token, 'base64').toString().split(':')[0] : undefined;
    const start = last === undefined ? 0 : sorted.findIndex((row) => row.id === last) + 1;
    const pageSize = Number(query.get('pageSize') ?? 0);
    const items = sorted.slice(start, pageSize > 0 ? start + pageSize : undefined);
    const more = start + items.length < sorted.length;
    return { items, pageSize, nextPageToken: more ? Buffer.from(`${items.at(-1)?.id}:${items.at(-1)?.id}`).toString('base64') : '' };
  }

  #same(a: unknown, b: unknown): boolean {
    return a !== undefined && b !== undefined && this.#fold(String(a)) === this.#fold(String(b));
  }

  #check(row: Row): void {
    const { externalId } = row.fields;
    const { words } = rules[row.kind];
    if (row.stored.length > 255)
      throw new Refusal(500, `error saving ${words}: Error 1406 (22001): Data too long for column 'name' at row 1`);
    if (String(externalId ?? '').length > 255)
      throw new Refusal(500, `error saving ${words}: Data too long for column 'external_id' at row 1`);
    // The tables have three bytes for a character of UTF-8.
    if (/[\u{10000}-\u{10ffff}]/u.test(JSON.stringify(row.fields))) throw new Refusal(500, 'Error 1366 (22007): Incorrect string value');
    const others = this.rows.filter((other) => other.id !== row.id);
    const taken = others.some(
      (other) => (other.kind === row.kind && this.#same(other.stored, row.stored)) || this.#same(other.fields.externalId, externalId),
    );
    if (taken) throw new Refusal(409, `${words} with name ${row.stored} already exists: conflict`);
  }
}

/** SQL's LIKE with MySQL's escape sign. */
function likePattern(text: string): RegExp {
  const parts = text.match(/\\.|[\s\S]/g) ?? [];
  const source = parts.map((part) => (part === '%' ? '[\\s\\S]*' : part === '_' ? '[\\s\\S]' : escaped(part.replace(/^\\(.)/, '$1'))));
  return new RegExp(`^${source.join('')}$`);
}

function escaped(sign: string): string {
  return sign.replace(/[.*+?^${}()|[\]\\/]/, '\\$&');
}

/** As much of the filter language as `name = "x"`. */
function readFilter(text: string | null): { field: string; value: string } | undefined {
  if (!text) return undefined;
  const [, field, , single, double] = /^(name|externalId|state)\s*=\s*('([^']*)'|"([^"]*)")$/.exec(text.trim()) ?? [];
  const value = single ?? double;
  if (field === undefined || value === undefined) throw new Refusal(400, `invalid filter query: ${text}: bad request`);
  return { field, value };
}
