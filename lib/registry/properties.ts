/** A value in customProperties, with the REST API's own field names. */
export interface Property {
  metadataType: string;
  [field: string]: unknown;
}

export type Properties = Record<string, Property>;

/** Text; the registry's UI shows an empty one as a label. */
export function textProperty(value: string): Property {
  return { metadataType: 'MetadataStringValue', string_value: value };
}

/** Also for sizes: the registry's integers have 32 bits, and a double is exact up to 2^53. */
export function numberProperty(value: number): Property {
  return { metadataType: 'MetadataDoubleValue', double_value: value };
}

/** Yes or no. */
export function boolProperty(value: boolean): Property {
  return { metadataType: 'MetadataBoolValue', bool_value: value };
}

/** What was read, as it must be sent: v0.2.22 gives a struct as plain JSON and takes it as base64 only. */
export function sendable(properties: Properties): Properties {
  return Object.fromEntries(
    Object.entries(properties).map(([key, property]) => {
      const { struct_value: value } = property;
      const plain = typeof value === 'string' && /^\s*[{[]/.test(value);
      return [key, plain ? { ...property, struct_value: Buffer.from(value).toString('base64') } : property];
    }),
  );
}
