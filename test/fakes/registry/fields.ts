/** An error as the registry words it: `{code, message}`, where code is the name of the status. */
export class Refusal extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export type Kind = 'model' | 'version' | 'artifact';

/** What a client sent or gets: JSON as it is. */
export type Body = Record<string, unknown>;

interface KindRules {
  /** In messages, and the Go type that JSON errors name. */
  words: string;
  type: string;
  fields: Record<string, 'string' | 'strings' | 'state' | 'properties' | 'type'>;
  /** Fields that only a create takes. */
  fixed: readonly string[];
  required: readonly string[];
  states: readonly string[];
  /** What a PATCH without a state sets in v0.2.22, and a create everywhere. */
  defaultState: string;
}

const common = { externalId: 'string', description: 'string', customProperties: 'properties', state: 'state', name: 'string' } as const;

/** The fields of each kind, from the registry's own api/openapi/model-registry.yaml. */
export const rules: Record<Kind, KindRules> = {
  model: {
    words: 'registered model',
    type: 'RegisteredModel',
    fields: {
      ...common,
      owner: 'string',
      readme: 'string',
      maturity: 'string',
      language: 'strings',
      tasks: 'strings',
      provider: 'string',
      logo: 'string',
      license: 'string',
      licenseLink: 'string',
      libraryName: 'string',
    },
    fixed: ['name'],
    required: ['name'],
    states: ['LIVE', 'ARCHIVED'],
    defaultState: 'LIVE',
  },
  version: {
    words: 'model version',
    type: 'ModelVersion',
    fields: { ...common, author: 'string', registeredModelId: 'string' },
    fixed: ['name', 'registeredModelId'],
    required: ['name', 'registeredModelId'],
    states: ['LIVE', 'ARCHIVED'],
    defaultState: 'LIVE',
  },
  artifact: {
    words: 'model artifact',
    type: 'ModelArtifact',
    fields: {
      ...common,
      id: 'string',
      artifactType: 'type',
      uri: 'string',
      modelFormatName: 'string',
      modelFormatVersion: 'string',
      storageKey: 'string',
      storagePath: 'string',
      serviceAccountName: 'string',
      modelSourceKind: 'string',
      modelSourceClass: 'string',
      modelSourceGroup: 'string',
      modelSourceId: 'string',
      modelSourceName: 'string',
    },
    fixed: ['name', 'id'],
    required: [],
    states: ['UNKNOWN', 'PENDING', 'LIVE', 'MARKED_FOR_DELETION', 'DELETED', 'ABANDONED', 'REFERENCE'],
    defaultState: 'UNKNOWN',
  },
};

/** Reads a body as the server does: unknown fields, wrong types and wrong words are 400, missing ones 422; null is "not given". */
export function readFields(kind: Kind, text: string, change: 'create' | 'update'): Body {
  const { fields, fixed, required, states, type } = rules[kind];
  let sent: unknown;
  try {
    sent = JSON.parse(text);
  } catch {
    throw new Refusal(400, 'unexpected EOF');
  }
  if (typeof sent !== 'object' || sent === null) throw new Refusal(400, 'json: cannot unmarshal');
  const body: Body = {};
  for (const [name, value] of Object.entries(sent)) {
    const wanted = change === 'update' && fixed.includes(name) ? undefined : fields[name];
    if (wanted === undefined) throw new Refusal(400, `json: unknown field ${JSON.stringify(name)}`);
    if (value === null) continue;
    const fits = wanted === 'strings' ? isStrings(value) : wanted === 'properties' ? typeof value === 'object' : typeof value === 'string';
    if (!fits) throw new Refusal(400, `json: cannot unmarshal ${typeof value} into Go struct field ${type}.${name}`);
    if (wanted === 'state' && !states.includes(value as string)) throw new Refusal(400, `${value} is not a valid ${type}State`);
    body[name] = wanted === 'properties' ? readProperties(value as Record<string, Body>) : value;
  }
  if (change === 'create') {
    const missing = required.find((name) => !body[name]);
    if (missing) throw new Refusal(422, `required field '${missing}' is zero value.`);
  }
  return body;
}

function isStrings(value: unknown): boolean {
  return Array.isArray(value) && value.every((one) => typeof one === 'string');
}

/** Integers have 32 bits; a struct is sent as base64 and given back as plain JSON, which must be encoded again to be sent. */
function readProperties(properties: Record<string, Body>): Record<string, Body> {
  return Object.fromEntries(
    Object.entries(properties).map(([key, { metadataType, ...rest }]) => {
      const [field, reader] = propertyTypes[String(metadataType)] ?? [];
      if (field === undefined || reader === undefined) {
        throw new Refusal(400, `error setting field CustomProperties: bad request: metadataType not found for ${key}: bad request`);
      }
      const value = reader(rest[field]);
      if (value === undefined) throw new Refusal(400, `error setting field CustomProperties: unable to decode for key ${key}: bad request`);
      return [key, { metadataType, [field]: value }];
    }),
  );
}

const propertyTypes: Record<string, [field: string, read: (value: unknown) => unknown]> = {
  MetadataStringValue: ['string_value', (value) => (typeof value === 'string' ? value : undefined)],
  MetadataBoolValue: ['bool_value', (value) => (typeof value === 'boolean' ? value : undefined)],
  MetadataDoubleValue: ['double_value', (value) => (typeof value === 'number' ? value : undefined)],
  MetadataIntValue: ['int_value', (value) => (/^-?\d+$/.test(String(value)) && Math.abs(Number(value)) < 2 ** 31 ? value : undefined)],
  MetadataStructValue: ['struct_value', decodeStruct],
};

function decodeStruct(value: unknown): string | undefined {
  try {
    return JSON.stringify(JSON.parse(Buffer.from(String(value), 'base64').toString()));
  } catch {
    return undefined;
  }
}
