/**
 * Takes the schemas that the engines ship for their own objects, from files of CustomResourceDefinitions, into one small file:
 *   npx node test/schemas/take.ts OUTPUT.json.gz CRD.yaml...
 * What only describes (descriptions, defaults, status) is left out, and an unknown field is a fault, which an API server would drop silently.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { parseAllDocuments } from 'yaml';

type Json = { [key: string]: unknown };

interface Definition {
  spec: { group: string; names: { kind: string }; versions: { name: string; schema: { openAPIV3Schema: Json } }[] };
}

const dropped = ['description', 'default', 'example', 'format', 'title', 'externalDocs'];
const isObject = (value: unknown): value is Json => typeof value === 'object' && value !== null && !Array.isArray(value);

/** OpenAPI as CRDs have it -> JSON Schema, strict about names. */
function convert(schema: Json): Json {
  if (schema['x-kubernetes-int-or-string']) return { type: ['string', 'integer'] };
  const out: Json = {};
  for (const [key, value] of Object.entries(schema)) {
    if (dropped.includes(key) || key.startsWith('x-') || key === 'nullable') continue;
    if (key === 'properties')
      out[key] = Object.fromEntries(Object.entries(value as Json).map(([name, property]) => [name, convert(property as Json)]));
    else if (key === 'items' || key === 'additionalProperties' || key === 'not') out[key] = isObject(value) ? convert(value) : value;
    else if (key === 'anyOf' || key === 'oneOf' || key === 'allOf') out[key] = (value as Json[]).map(convert);
    else out[key] = value;
  }
  if (out.properties && !schema['x-kubernetes-preserve-unknown-fields'] && out.additionalProperties === undefined)
    out.additionalProperties = false;
  if (schema.nullable && typeof out.type === 'string') out.type = [out.type, 'null'];
  return out;
}

/** The same piece (a container, a volume) stands in many places: once in `$defs` is enough. */
function shareRepeated(root: Json): Json {
  const counts = new Map<string, number>();
  const count = (node: unknown): void => {
    if (Array.isArray(node)) node.forEach(count);
    if (!isObject(node)) return;
    const text = JSON.stringify(node);
    counts.set(text, (counts.get(text) ?? 0) + 1);
    if (counts.get(text) === 1) Object.values(node).forEach(count);
  };
  count(root);
  const names = new Map<string, string>();
  const $defs: Json = {};
  const replace = (node: unknown, place: 'schema' | 'map' | 'other'): unknown => {
    if (Array.isArray(node)) return node.map((each) => replace(each, place));
    if (!isObject(node)) return node;
    const text = JSON.stringify(node);
    const inside = () =>
      Object.fromEntries(
        Object.entries(node).map(([key, value]) => [
          key,
          replace(value, place === 'map' ? 'schema' : key === 'properties' ? 'map' : 'schema'),
        ]),
      );
    if (place !== 'schema' || text.length < 200 || (counts.get(text) ?? 0) < 2) return inside();
    const known = names.get(text);
    if (known) return { $ref: `#/$defs/${known}` };
    const name = `s${names.size}`;
    names.set(text, name);
    $defs[name] = inside();
    return { $ref: `#/$defs/${name}` };
  };
  const replaced = replace(root, 'map') as Json;
  return { $defs, kinds: replaced };
}

const [output, ...files] = process.argv.slice(2);
if (output === undefined || files.length === 0) throw new Error('usage: take.ts OUTPUT.json.gz CRD.yaml...');
const kinds: Json = {};
for (const { spec } of files.flatMap((file) =>
  parseAllDocuments(readFileSync(file, 'utf8')).map((document) => document.toJS() as Definition),
)) {
  for (const { name, schema } of spec.versions) {
    const { properties, ...rest } = schema.openAPIV3Schema;
    const { status: _, metadata: __, ...own } = properties as Json;
    kinds[`${spec.group}/${name} ${spec.names.kind}`] = convert({ ...rest, properties: { ...own, metadata: { type: 'object' } } });
  }
}
writeFileSync(output, gzipSync(JSON.stringify(shareRepeated(kinds)), { level: 9 }));
console.log(Object.keys(kinds).join('\n'));
