/** How one parameter is declared: a JSON Schema property with our own keywords (registered with ajv, so a misspelt one is an error). */
export interface Param {
  type: 'string' | 'integer' | 'boolean' | 'array';
  /** First sentence: under 80 characters, with a full stop. What follows a blank line goes to help and docs, not into the wiring. */
  description: string;
  default?: string | number | boolean | readonly string[];
  enum?: readonly string[];
  pattern?: string;
  /** What the pattern lets in, for who gave something else: `a name such as org/name`. */
  'x-shape'?: string;
  minimum?: number;
  maximum?: number;
  items?: { type: 'string' };
  /** Names that the environment may use besides the own one, first wins. */
  'x-env'?: readonly string[];
  /** Words that mean another value, as older pipelines use them. */
  'x-words'?: Readonly<Record<string, string>>;
  /** Names in the environment of files that hold the value. */
  'x-file-env'?: readonly string[];
  /** Has no flag and no engine parameter, and is redacted wherever it is printed. */
  'x-secret'?: true;
  /** A quantity: text such as `64MiB` or `30s`, which `run` gets as a number of bytes or ms. */
  'x-unit'?: 'bytes' | 'ms';
  /** May also stand in the folder that `s3CredentialsDir` names, as a file called like one of its environment names. */
  'x-credentials-dir'?: true;
  /** Makes no sense inside a pod: no engine parameter. */
  'x-local'?: true;
  /** Heading in help and docs. */
  'x-group'?: string;
}

export type ParamMap = Record<string, Param>;

/** The JSON Schema object that a step is declared with. */
export interface ParamSchema<Map extends ParamMap = ParamMap, Required extends string = string> {
  type: 'object';
  properties: Map;
  required: readonly Required[];
  additionalProperties: false;
}

type Value<P extends Param> = P extends { 'x-unit': string }
  ? number
  : P extends { enum: readonly (infer Choice)[] }
    ? Choice
    : P extends { type: 'integer' }
      ? number
      : P extends { type: 'boolean' }
        ? boolean
        : P extends { type: 'array' }
          ? string[]
          : string;

type Given<Map extends ParamMap, Required extends string> = {
  [Name in keyof Map]: Name extends Required ? Name : Map[Name] extends { default: unknown } ? Name : never;
}[keyof Map];

/** What `run` gets: typed from the declaration, so that no step can read what it did not declare. */
export type ParamValues<Map extends ParamMap, Required extends string> = {
  [Name in Given<Map, Required>]: Value<Map[Name]>;
} & { [Name in Exclude<keyof Map, Given<Map, Required>>]?: Value<Map[Name]> };

export type ValuesOf<Schema> = Schema extends ParamSchema<infer Map, infer Required> ? ParamValues<Map, Required> : never;
/** The values of a group of parameters, as a function of lib takes them. */
export type GroupValues<Map extends ParamMap> = ParamValues<Map, never>;

/** A step's parameters: groups spread into one object, and which of them must be given. */
export function schema<const Map extends ParamMap, const Required extends keyof Map & string = never>(
  properties: Map,
  required: readonly Required[] = [],
): ParamSchema<Map, Required> {
  return { type: 'object', properties, required, additionalProperties: false };
}

/** Puts one heading on a group of parameters. */
export function group<const Map extends ParamMap>(heading: string, params: Map): Map {
  return Object.fromEntries(Object.entries(params).map(([name, param]) => [name, { 'x-group': heading, ...param }])) as Map;
}

/** `modelId` -> `model-id`: the flag and the engines' parameter. */
export function kebab(name: string): string {
  let made = kebabs.get(name);
  if (made === undefined) {
    made = name.replace(/([a-z0-9])([A-Z])/g, '$1-$2').toLowerCase();
    kebabs.set(name, made);
  }
  return made;
}

/** Declared names are few, and are asked for again and again. */
const kebabs = new Map<string, string>();

/** `modelId` -> `MODEL_ID`: the name in the environment. */
export function envName(name: string): string {
  return kebab(name).replaceAll('-', '_').toUpperCase();
}

/** The first sentence of a description: what the wiring says of a parameter. */
export function firstSentence(description: string): string {
  return description.split('\n\n')[0] ?? '';
}

/** A parameter that is a sha256 in bare hex. */
export const sha256Shape = { type: 'string', pattern: '^[0-9a-f]{64}$', 'x-shape': 'a sha256 of 64 hex digits' } as const;
